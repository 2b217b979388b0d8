"""Which evicted chunks a query might want: the ranking behind recall.

LagKV evicts without looking at queries. For every sealed chunk the daemon keeps the least and the greatest value of each key
channel, lo and hi, in memory that the engine maps. They bound the attention logit that a query q can give any key of the chunk:

    bound(q, chunk) = Σ_c max(q[c] · lo[c], q[c] · hi[c])

A KV head's chunks are ranked by softmax(bound · scaling) over its sealed chunks, averaged over the last queries of the turn
and the query heads of the group. What was measured and lost is in the README's chapter on recall.
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


def rank(queries: torch.Tensor, lo: torch.Tensor, hi: torch.Tensor, scaling: float, m: int) -> torch.Tensor:
    """The m chunks every KV head wants most, ascending: int64 [kv_heads, min(m, chunks)].
    queries [query_heads, n, dim], query heads of a group in a row; lo, hi [chunks, kv_heads, dim]."""
    chunks, kv_heads, dim = lo.shape
    grouped = queries.reshape(kv_heads, -1, dim)
    likelihood = torch.softmax(bounds(grouped, lo, hi) * scaling, dim=-1).mean(dim=1)
    return likelihood.topk(min(m, chunks), dim=-1).indices.sort(dim=-1).values


@dataclasses.dataclass(frozen=True)
class Recall:
    """chunks: how many sealed chunks come back for a turn, in every layer and KV head; 0 is plain LagKV.
    queries: how many of the turn's last queries rank them. refresh: rank again after so many answered tokens, None for once
    a turn. turn: a forward call of more tokens than this begins a turn; shorter ones continue it. rule: what ranks; another
    one only to be measured."""

    chunks: int = 2
    queries: int = 10
    refresh: int | None = None
    turn: int = 4
    rule: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, float, int], torch.Tensor] = rank

    def __post_init__(self) -> None:
        if self.chunks < 0 or self.queries < 1 or self.turn < 1 or (self.refresh is not None and self.refresh < 1):
            raise ValueError(f"{self}: chunks must be 0 or more, queries, turn and refresh 1 or more")
