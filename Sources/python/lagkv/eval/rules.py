"""Other ways of choosing what to recall, to be measured against the one in `lagkv.hf.recall`: `lagkv+2/max` and the like.

Which of them lost, and by how much, is in RESULTS.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch

from lagkv.hf.recall import Recall, attention, bounds, by_kv_head, most_wanted

from .baselines import Policy


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


class Halves:
    """Boxes around half chunks, which are tighter: a chunk is worth what its halves promise together. No daemon keeps such boxes,
    so they are taken from the keys of the whole prompt."""

    def __init__(self, keys: list[torch.Tensor], policy: Policy) -> None:
        """keys: by layer, [kv_heads, tokens, dim]."""
        self._halves = [self._boxes(layer.float(), policy) for layer in keys]

    @staticmethod
    def _boxes(keys: torch.Tensor, policy: Policy) -> tuple[torch.Tensor, torch.Tensor]:
        """lo and hi of every half chunk, [chunks, 2, kv_heads, dim]."""
        chunks = (keys.shape[1] - policy.sink) // policy.lag
        halves = keys[:, policy.sink : policy.sink + chunks * policy.lag].unflatten(1, (chunks, 2, -1)).movedim(0, 2)
        return halves.amin(dim=3), halves.amax(dim=3)

    def __call__(self, queries, lo, hi, kept, scaling, m, weight) -> torch.Tensor:
        chunks = lo.shape[0]
        # A rule is not told of which layer it is asked: the boxes of its whole chunks say so.
        fine = next(
            (low[:chunks], high[:chunks])
            for low, high in self._halves
            if torch.equal(low[:chunks].amin(dim=1), lo.float()) and torch.equal(high[:chunks].amax(dim=1), hi.float())
        )
        possible = _possible(queries, *(part.flatten(0, 1) for part in fine), scaling)
        return most_wanted(possible.unflatten(-1, (chunks, 2)).sum(dim=-1).mean(dim=1), m)


@dataclasses.dataclass(frozen=True)
class Rule:
    """options: what differs from the defaults of `Recall`. of_prompt: makes the rule from what no daemon knows, the whole prompt.
    doubt: ranks again after a token of the answer that was followed by more nats of entropy than this."""

    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    of_prompt: Callable[[list[torch.Tensor], Policy], Callable] | None = None
    doubt: float | None = None

    def recall(self, chunks: int, turn: int, keys: list[torch.Tensor], policy: Policy) -> Recall:
        """keys: of the whole prompt, by layer, [kv_heads, tokens, dim]."""
        made = {"rule": self.of_prompt(keys, policy)} if self.of_prompt else {}
        return Recall(chunks=chunks, turn=turn, **self.options, **made)


RULES = {
    "default": Rule(),
    "third-kept": Rule({"kept_weight": 0.3}),
    "with-kept": Rule({"kept_weight": 1.0}),
    "kept": Rule({"rule": by_kept}),
    "thirds": Rule({"rule": by_thirds}),
    "center": Rule({"rule": by_center}),
    "max": Rule({"rule": by_maximum}),
    "raw": Rule({"rule": by_bound}),
    "layer": Rule({"rule": by_layer}),
    "last": Rule({"queries": 1}),
    "last32": Rule({"queries": 32}),
    "refresh16": Rule({"refresh": 16}),
    "halves": Rule(of_prompt=Halves),
    "doubt": Rule(doubt=0.5),
}
