"""Other ways of choosing what to recall, to be measured against the one in `lagkv.hf.recall`: `lagkv+2/max` and the like.

RULES names what differs from the default of `Recall`. Which of them lost, and by how much, is in RESULTS.md.
"""

from __future__ import annotations

import functools
from typing import Any

import torch

from lagkv.hf.recall import attention, bounds, by_kv_head, most_wanted


def by_bounds(queries, lo, hi, kept, scaling, m) -> torch.Tensor:
    """The summaries alone, without the kept keys."""
    return most_wanted(_possible(queries, lo, hi, scaling).mean(dim=1), m)


def by_kept(queries, lo, hi, kept, scaling, m) -> torch.Tensor:
    """The kept keys alone."""
    return most_wanted(attention(by_kv_head(queries, lo), kept, scaling).mean(dim=1), m)


def by_sum(weight: float, queries, lo, hi, kept, scaling, m) -> torch.Tensor:
    """Both at once, the kept keys with a weight."""
    wanted = _possible(queries, lo, hi, scaling) + weight * attention(by_kv_head(queries, lo), kept, scaling)
    return most_wanted(wanted.mean(dim=1), m)


def by_maximum(queries, lo, hi, kept, scaling, m) -> torch.Tensor:
    """The query that wants a chunk most decides, instead of the mean over queries."""
    return most_wanted(_possible(queries, lo, hi, scaling).amax(dim=1), m)


def by_bound(queries, lo, hi, kept, scaling, m) -> torch.Tensor:
    """The bounds themselves, instead of the softmax over chunks: a query that wants nothing counts as much as any."""
    return most_wanted(bounds(by_kv_head(queries, lo), lo, hi).mean(dim=1), m)


def by_layer(queries, lo, hi, kept, scaling, m) -> torch.Tensor:
    """One choice for all heads of a layer."""
    return most_wanted(_possible(queries, lo, hi, scaling).mean(dim=(0, 1)).expand(lo.shape[1], -1), m)


def by_center(queries, lo, hi, kept, scaling, m) -> torch.Tensor:
    """The middle of a chunk's box instead of its corner."""
    centers = ((lo.float() + hi.float()) / 2).permute(1, 2, 0)
    return most_wanted(torch.softmax(by_kv_head(queries, lo).float() @ centers * scaling, dim=-1).mean(dim=1), m)


def _possible(queries, lo, hi, scaling) -> torch.Tensor:
    return torch.softmax(bounds(by_kv_head(queries, lo), lo, hi) * scaling, dim=-1)


RULES: dict[str, dict[str, Any]] = {
    "default": {},
    "bounds": {"rule": by_bounds},
    "kept": {"rule": by_kept},
    "sum": {"rule": functools.partial(by_sum, 0.3)},
    "even": {"rule": functools.partial(by_sum, 1.0)},
    "center": {"rule": by_center},
    "max": {"rule": by_maximum},
    "raw": {"rule": by_bound},
    "layer": {"rule": by_layer},
    "last": {"rule": by_bounds, "queries": 1},
    "last32": {"rule": by_bounds, "queries": 32},
    "refresh16": {"rule": by_bounds, "refresh": 16},
}
