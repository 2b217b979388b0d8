"""Other people's ways of keeping a part of the KV cache, and LagKV itself, in plain torch: what the daemon is compared with.

A method names the rows that stay, by layer and KV head. `Pruned` is a transformers cache that applies it: LagKV and its
kin whenever a chunk is complete, as they are defined; the others once, when the prompt is in, which is how they are used.
All get the same memory: as many rows as LagKV's hot view would have.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
import transformers
from transformers.cache_utils import DynamicLayer


@dataclasses.dataclass(frozen=True)
class Policy:
    """S, L, r, α and the uncompressed layers, as everywhere; what is in torch here has α = 1 and compresses all layers."""

    sink: int = 16
    lag: int = 128
    keep_ratio: float = 0.25
    value_weight: float = 1.0
    uncompressed_layers: tuple[int, ...] = ()

    def chunks(self, tokens: int) -> int:
        """Chunks that are sealed at this length."""
        return max(0, (tokens - self.sink) // self.lag - 1) if self.keep_ratio < 1 else 0

    def kept(self) -> int:
        return int(self.keep_ratio * self.lag)

    def resident(self, tokens: int) -> int:
        """Rows of a compressed layer's hot view at this length."""
        return tokens - self.chunks(tokens) * (self.lag - self.kept())


# Scorers of a chunk by itself or by its successor: keys and values [heads, chunks, lag, dim] of a chunk and of the one that
# follows it; the result [heads, chunks, lag], higher stays.


def lagkv_scores(keys, values, next_keys, next_values) -> torch.Tensor:
    """LagKV (arXiv 2504.04704), with α = 1."""

    def part(x, reference):
        x, reference = x.float(), reference.float()
        lo, hi = reference.amin(2, keepdim=True), reference.amax(2, keepdim=True)
        scaled = torch.where(hi > lo, (x - lo) / (hi - lo), 0.0)
        return scaled.std(dim=-1).softmax(dim=-1)

    return part(keys, next_keys) + part(values, next_values)


def l2_norm_scores(keys, values, next_keys, next_values) -> torch.Tensor:
    """Keys of small norm attract attention (arXiv 2406.11430)."""
    return -keys.float().norm(dim=-1)


def keydiff_scores(keys, values, next_keys, next_values) -> torch.Tensor:
    """Keys unlike the mean key stay (KeyDiff, arXiv 2504.15364)."""
    unit = torch.nn.functional.normalize(keys.float(), dim=-1)
    return -torch.nn.functional.cosine_similarity(unit, unit.mean(dim=2, keepdim=True), dim=-1)


def random_scores(keys, values, next_keys, next_values) -> torch.Tensor:
    """What any method must beat. The seed is the global one of torch."""
    return torch.rand(keys.shape[:3])


CHUNKED: dict[str, Callable] = {
    "lagkv-torch": lagkv_scores,
    "l2norm": l2_norm_scores,
    "keydiff": keydiff_scores,
    "random": random_scores,
}

# Choosers of the whole prompt: budget rows of one layer from its keys [kv_heads, tokens, dim] and queries [query_heads,
# tokens, dim]; the result [kv_heads, budget], ascending.


def streaming_llm(keys, queries, scaling, budget) -> torch.Tensor:
    """Four attention sinks and the newest tokens (arXiv 2309.17453)."""
    heads, tokens, _ = keys.shape
    positions = torch.cat((torch.arange(4), torch.arange(tokens - budget + 4, tokens)))
    return positions.expand(heads, -1)


def h2o(keys, queries, scaling, budget) -> torch.Tensor:
    """Half the newest tokens, half those that all queries together attended to most (arXiv 2306.14048)."""
    tokens, recent = keys.shape[1], budget // 2
    return _with_recent(attention_received(keys, queries, scaling), tokens - recent, tokens, budget)


def attention_received(keys, queries, scaling) -> torch.Tensor:
    """What all queries gave each key, [kv_heads, tokens]."""
    heads, tokens, _ = keys.shape
    weight = torch.zeros(heads, tokens)
    # A row of queries at a time: the attention matrix as a whole would not fit for long prompts.
    for first in range(0, tokens, 256):
        weight += _attention(keys, queries[:, first : first + 256], scaling, first).sum(dim=1)
    return weight


def snapkv(keys, queries, scaling, budget, window: int = 64, kernel: int = 5) -> torch.Tensor:
    """The last queries' attention, smoothed over neighbours, votes for the rest (arXiv 2404.14469)."""
    tokens = keys.shape[1]
    window = min(window, budget // 2)
    return _with_recent(snapkv_scores(keys, queries, scaling, window, kernel), tokens - window, tokens, budget)


def snapkv_scores(keys, queries, scaling, window: int, kernel: int) -> torch.Tensor:
    """[kv_heads, tokens - window]."""
    old = keys.shape[1] - window
    weight = _attention(keys, queries[:, -window:], scaling, old)[..., :old].mean(dim=1)
    return torch.nn.functional.avg_pool1d(weight[:, None], kernel, stride=1, padding=kernel // 2)[:, 0]


def _attention(keys, queries, scaling, first) -> torch.Tensor:
    """softmax(qk) [kv_heads, group · queries, tokens] of the queries at positions first, first + 1, …"""
    heads, tokens, dim = keys.shape
    n = queries.shape[1]
    logits = queries.reshape(heads, -1, n, dim).float() @ keys.float()[:, None].transpose(-1, -2) * scaling
    visible = torch.arange(tokens) <= torch.arange(first, first + n)[:, None]
    return logits.masked_fill(~visible, -torch.inf).softmax(dim=-1).reshape(heads, -1, tokens)


def _with_recent(weight, old: int, tokens: int, budget: int) -> torch.Tensor:
    chosen = weight[:, :old].topk(budget - (tokens - old), dim=-1).indices.sort(dim=-1).values
    return torch.cat((chosen, torch.arange(old, tokens).expand(chosen.shape[0], -1)), dim=1)


WHOLE: dict[str, Callable] = {"h2o": h2o, "snapkv": snapkv, "streaming": streaming_llm}


class PrunedLayer(DynamicLayer):
    """Holds the rows that its method keeps; says the logical length for positions and the resident one for masks."""

    is_croppable = False

    def __init__(self, method: str, policy: Policy) -> None:
        super().__init__()
        self._scores, self._choose, self._policy = CHUNKED.get(method), WHOLE.get(method), policy
        self.tokens = self.sealed = 0
        # [heads, n]: where each resident row came from.
        self.positions: torch.Tensor | None = None

    def update(self, key_states, value_states, *args, **kwargs):
        keys, values = super().update(key_states, value_states)
        m = key_states.shape[2]
        new = torch.arange(self.tokens, self.tokens + m).expand(key_states.shape[1], -1)
        self.positions = new if self.positions is None else torch.cat((self.positions, new), dim=1)
        self.tokens += m
        if self._scores:
            self._seal()
        return keys, values  # the new tokens see what was there when they came

    def get_seq_length(self) -> int:
        return self.tokens

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        resident = self.keys.shape[2] if self.is_initialized else 0
        return resident + query_length, self.tokens - resident

    def _seal(self) -> None:
        policy = self._policy
        fresh = policy.chunks(self.tokens) - self.sealed
        if fresh <= 0:
            return
        first = policy.sink + self.sealed * policy.kept()
        end = first + (fresh + 1) * policy.lag
        keys, values = (x[0][:, first:end].unflatten(1, (fresh + 1, policy.lag)) for x in (self.keys, self.values))
        scores = self._scores(keys[:, :-1], values[:, :-1], keys[:, 1:], values[:, 1:])
        # Stable: of equal scores the earlier token stays.
        order = scores.argsort(dim=-1, descending=True, stable=True)[..., : policy.kept()]
        offsets = order.sort(dim=-1).values + policy.lag * torch.arange(fresh)[:, None]
        self.sealed += fresh
        heads, rows = self.positions.shape
        self.keep(
            torch.cat(
                (
                    torch.arange(first).expand(heads, -1),
                    first + offsets.flatten(1),
                    torch.arange(end - policy.lag, rows).expand(heads, -1),
                ),
                1,
            )
        )

    def keep(self, rows: torch.Tensor) -> None:
        """rows [heads, n], ascending: of those that are resident."""
        index = rows[None, :, :, None]
        self.keys, self.values = (x.gather(2, index.expand(-1, -1, -1, x.shape[3])) for x in (self.keys, self.values))
        self.positions = self.positions.gather(1, rows)

    def choose(self, queries: torch.Tensor, scaling: float, extra: int) -> None:
        """For methods of the whole prompt: keeps as much as LagKV would and `extra` rows, by these queries [query_heads,
        tokens, dim]."""
        budget = self._policy.resident(self.tokens) + extra
        if self._choose and budget < self.tokens:
            self.keep(self._choose(self.keys[0], queries, scaling, budget))


class Pruned(transformers.Cache):
    """A cache of one sequence by one of the methods above. After the prompt's forward call, `settle` with its queries."""

    def __init__(self, layers: int, method: str, policy: Policy) -> None:
        super().__init__(layers=[PrunedLayer(method, policy) for _ in range(layers)])

    def settle(self, queries: list[torch.Tensor], scaling: float, extra: int = 0) -> None:
        for layer, of_layer in zip(self.layers, queries, strict=True):
            layer.choose(of_layer, scaling, extra)
