"""Other ways of choosing what to recall, to be measured against the one in `lagkv.hf.recall`: `lagkv+2/max` and the like.

RULES names what differs from the default of `Recall`. Which of them lost, and by how much, is in RESULTS.md.
"""

from __future__ import annotations

from typing import Any

import torch

from lagkv.hf.recall import attention, bounds, by_kv_head, most_wanted


def by_kept(queries, lo, hi, kept, scaling, m, weight) -> torch.Tensor:
    """The kept keys alone."""
    return most_wanted(attention(by_kv_head(queries, lo), kept, scaling).mean(dim=1), m)


def by_thirds(queries, lo, hi, kept, scaling, m, weight) -> torch.Tensor:
    """Every third chunk by the kept keys, of those that the bounds have not chosen."""
    m = min(m, lo.shape[0])
    chosen = _possible(queries, lo, hi, scaling).mean(dim=1).topk(m - m // 3, dim=-1).indices
    found = attention(by_kv_head(queries, lo), kept, scaling).mean(dim=1).scatter(1, chosen, -1.0)
    return torch.cat((chosen, found.topk(m // 3, dim=-1).indices), dim=1).sort(dim=-1).values


def by_maximum(queries, lo, hi, kept, scaling, m, weight) -> torch.Tensor:
    """The query that wants a chunk most decides, instead of the mean over queries."""
    return most_wanted(_possible(queries, lo, hi, scaling).amax(dim=1), m)


def by_bound(queries, lo, hi, kept, scaling, m, weight) -> torch.Tensor:
    """The bounds themselves, instead of the softmax over chunks: a query that wants nothing counts as much as any."""
    return most_wanted(bounds(by_kv_head(queries, lo), lo, hi).mean(dim=1), m)


def by_layer(queries, lo, hi, kept, scaling, m, weight) -> torch.Tensor:
    """One choice for all heads of a layer."""
    return most_wanted(_possible(queries, lo, hi, scaling).mean(dim=(0, 1)).expand(lo.shape[1], -1), m)


def by_center(queries, lo, hi, kept, scaling, m, weight) -> torch.Tensor:
    """The middle of a chunk's box instead of its corner."""
    centers = ((lo.float() + hi.float()) / 2).permute(1, 2, 0)
    return most_wanted(torch.softmax(by_kv_head(queries, lo).float() @ centers * scaling, dim=-1).mean(dim=1), m)


def _possible(queries, lo, hi, scaling) -> torch.Tensor:
    return torch.softmax(bounds(by_kv_head(queries, lo), lo, hi) * scaling, dim=-1)


RULES: dict[str, dict[str, Any]] = {
    "default": {},
    "third-kept": {"kept_weight": 0.3},
    "with-kept": {"kept_weight": 1.0},
    "kept": {"rule": by_kept},
    "thirds": {"rule": by_thirds},
    "center": {"rule": by_center},
    "max": {"rule": by_maximum},
    "raw": {"rule": by_bound},
    "layer": {"rule": by_layer},
    "last": {"queries": 1},
    "last32": {"queries": 32},
    "refresh16": {"refresh": 16},
}
