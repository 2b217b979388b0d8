"""Which evicted chunks a query might want: the ranking behind recall.

LagKV evicts without looking at queries. For every sealed chunk the daemon keeps the least and the greatest value of each key
channel, lo and hi, in memory that the engine maps. They bound the attention logit that a query q can give any key of the chunk:

    bound(q, chunk) = Σ_c max(q[c] · lo[c], q[c] · hi[c])

A KV head's chunks are ranked by softmax(bound · scaling) over its sealed chunks, averaged over the last queries of the turn and
the query heads of the group. A box around 128 keys is wide, though, in prose above all, and what a chunk certainly has is the few
keys that stayed in memory: their share of the attention that all kept keys get may be added, with a weight. What was measured,
and what lost, is in eval/RESULTS.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch


def bounds(queries: torch.Tensor, lo: torch.Tensor, hi: torch.Tensor) -> torch.Tensor:
    """The greatest dot product each query could have with a key of each chunk.
    queries [heads, n, dim]; lo, hi [chunks, heads, dim]; the result [heads, n, chunks], float32."""
    queries, lo, hi = queries.float(), lo.float().permute(1, 2, 0), hi.float().permute(1, 2, 0)
    return queries.clamp(min=0) @ hi + queries.clamp(max=0) @ lo


def rank(
    queries: torch.Tensor, lo: torch.Tensor, hi: torch.Tensor, kept: torch.Tensor, scaling: float, m: int, weight: float = 0.0
) -> torch.Tensor:
    """The m chunks every KV head wants most, ascending: int64 [kv_heads, min(m, chunks)].
    queries [query_heads, n, dim], query heads of a group in a row; lo, hi [chunks, kv_heads, dim]; kept [kv_heads, chunks, rows,
    dim], the keys of each chunk that are resident, none of them recalled, which count `weight` beside the bounds."""
    grouped = by_kv_head(queries, lo)
    wanted = torch.softmax(bounds(grouped, lo, hi) * scaling, dim=-1)
    if weight:
        wanted = wanted + weight * attention(grouped, kept, scaling)
    return most_wanted(wanted.mean(dim=1), m)


def by_kv_head(queries: torch.Tensor, lo: torch.Tensor) -> torch.Tensor:
    """[kv_heads, group · n, dim] of queries [query_heads, n, dim]."""
    return queries.reshape(lo.shape[1], -1, lo.shape[2])


def attention(grouped: torch.Tensor, kept: torch.Tensor, scaling: float) -> torch.Tensor:
    """How each query [kv_heads, n, dim] shares its attention out among the kept keys, by chunk: [kv_heads, n, chunks]."""
    logits = (grouped.to(kept.dtype) @ kept.flatten(1, 2).transpose(1, 2)).float() * scaling
    return torch.softmax(logits, dim=-1).unflatten(-1, kept.shape[1:3]).sum(dim=-1)


def most_wanted(wanted: torch.Tensor, m: int) -> torch.Tensor:
    """The m of [kv_heads, chunks] that are wanted most, ascending."""
    return wanted.topk(min(m, wanted.shape[-1]), dim=-1).indices.sort(dim=-1).values


@dataclasses.dataclass(frozen=True)
class Recall:
    """chunks: how many sealed chunks come back for a turn, in every layer and KV head; 0 is plain LagKV.
    queries: how many of the turn's last queries rank them. refresh: rank again after so many answered tokens, None for once
    a turn. turn: a forward call of more tokens than this begins a turn; shorter ones continue it. kept_weight: what the attention
    to a chunk's kept keys counts beside what its bounds promise: 1 finds half as much again in prose, where three chunks or more
    are recalled, and less of numbers that span two chunks where two are. rule: what ranks; another one only to be measured."""

    chunks: int = 2
    queries: int = 10
    refresh: int | None = None
    turn: int = 4
    kept_weight: float = 0.0
    rule: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, float, int, float], torch.Tensor] = rank

    def __post_init__(self) -> None:
        if self.chunks < 0 or self.queries < 1 or self.turn < 1 or (self.refresh is not None and self.refresh < 1):
            raise ValueError(f"{self}: chunks must be 0 or more, queries, turn and refresh 1 or more")
