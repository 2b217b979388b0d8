"""Other ways of choosing what to recall, to be measured against the one in `lagkv.hf.recall`: `lagkv+2/max` and the like.

RULES names what differs from the default of `Recall`. Which of them lost, and by how much, is in RESULTS.md.
"""

from __future__ import annotations

from typing import Any

import torch

from lagkv.hf.recall import bounds


def by_maximum(queries, lo, hi, scaling, m) -> torch.Tensor:
    """The query that wants a chunk most decides, instead of the mean over queries."""
    return _best(torch.softmax(_of_heads(queries, lo, hi) * scaling, dim=-1).amax(dim=1), m)


def by_bound(queries, lo, hi, scaling, m) -> torch.Tensor:
    """The bounds themselves, instead of the softmax over chunks: a query that wants nothing counts as much as any."""
    return _best(_of_heads(queries, lo, hi).mean(dim=1), m)


def by_layer(queries, lo, hi, scaling, m) -> torch.Tensor:
    """One choice for all heads of a layer."""
    likelihood = torch.softmax(_of_heads(queries, lo, hi) * scaling, dim=-1).mean(dim=(0, 1))
    return _best(likelihood.expand(lo.shape[1], -1), m)


def _of_heads(queries, lo, hi) -> torch.Tensor:
    """[kv_heads, group · n, chunks] of queries [query_heads, n, dim]."""
    return bounds(queries.reshape(lo.shape[1], -1, lo.shape[2]), lo, hi)


def _best(wanted: torch.Tensor, m: int) -> torch.Tensor:
    return wanted.topk(min(m, wanted.shape[-1]), dim=-1).indices.sort(dim=-1).values


RULES: dict[str, dict[str, Any]] = {
    "default": {},
    "max": {"rule": by_maximum},
    "bound": {"rule": by_bound},
    "layer": {"rule": by_layer},
    "last": {"queries": 1},
    "last32": {"queries": 32},
    "refresh16": {"refresh": 16},
}
