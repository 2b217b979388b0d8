"""Checks the reference scorers against those of kvpress, on real keys, values and queries of every layer.

kvpress wants an older transformers than lagkv.hf does, hence an environment of its own:

    python -m venv other && other/bin/pip install kvpress
    PYTHONPATH=Sources/python other/bin/python -m lagkv.eval.against_kvpress

A row says how many of the positions that one of them keeps the other one keeps too, and the largest relative difference of
the scores where both mean the same by them.
"""

from __future__ import annotations

import dataclasses

import kvpress
import torch
from transformers.models.llama.modeling_llama import eager_attention_forward
from transformers.modeling_utils import AttentionInterface

from lagkv import capture, models

from . import baselines

SINK, LAG, CHUNKS, KEEP_RATIO = 16, 128, 7, 0.25
TOKENS = SINK + LAG * (CHUNKS + 1)


@dataclasses.dataclass
class Layer:
    """What an attention module saw: rotated queries, keys, values and weights, and what presses ask for besides."""

    module: torch.nn.Module
    queries: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor
    weights: torch.Tensor
    hidden: torch.Tensor | None = None
    named: dict | None = None

    def score(self, press: kvpress.ScorerPress, chunk: int | None = None) -> torch.Tensor:
        """The press's scores [heads, tokens], of a chunk alone or of everything."""
        rows = slice(None) if chunk is None else slice(SINK + chunk * LAG, SINK + (chunk + 1) * LAG)
        return press.score(
            self.module, self.hidden, self.keys[:, :, rows], self.values[:, :, rows], self.weights, self.named
        )[0]


def seen(name: str) -> list[Layer]:
    """A forward call over English text, by layer."""
    layers: list[Layer] = []

    def remembering(module, query, key, value, *arguments, **named):
        output, weights = eager_attention_forward(module, query, key, value, *arguments, **named)
        layers.append(Layer(module, query, key, value, weights))
        return output, weights

    def after(module, arguments, named, output):
        layers[-1].hidden, layers[-1].named = named["hidden_states"], named

    AttentionInterface.register("against-kvpress", remembering)
    tokenizer, model = models.load(name, "float32", "eager")
    model.set_attn_implementation("against-kvpress")
    for layer in model.model.layers:
        layer.self_attn.register_forward_hook(after, with_kwargs=True)
    ids = capture.english_ids(tokenizer, TOKENS)
    # Without a registered mask the attention gets none: eager attention needs it spelled out.
    mask = torch.full((1, 1, TOKENS, TOKENS), torch.finfo(torch.float32).min).triu(1)
    with torch.no_grad():
        model(ids, attention_mask=mask, use_cache=True, logits_to_keep=1)
    return layers


def chunked(layer: Layer, ours, press: kvpress.ScorerPress) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores of every sealed chunk, [heads, chunks, lag], by ours and by a press that is shown one chunk at a time."""
    keys, values = (x[0][:, SINK:].unflatten(1, (CHUNKS + 1, LAG)) for x in (layer.keys, layer.values))
    theirs = torch.stack([layer.score(press, chunk) for chunk in range(CHUNKS)], dim=1)
    return ours(keys[:, :-1], values[:, :-1], keys[:, 1:], values[:, 1:]), theirs


def lagkv(layer: Layer) -> tuple[torch.Tensor, torch.Tensor]:
    """The press ranks within chunks, so only what is kept compares."""
    ours, _ = chunked(layer, baselines.lagkv_scores, kvpress.KnormPress())
    theirs = layer.score(kvpress.LagKVPress(n_sink=SINK, lag_size=LAG))
    return ours, theirs[:, SINK : SINK + CHUNKS * LAG].unflatten(1, (CHUNKS, LAG))


def snapkv(layer: Layer) -> tuple[torch.Tensor, torch.Tensor]:
    ours = baselines.snapkv_scores(layer.keys[0], layer.queries[0], layer.module.scaling, 64, 5)
    layer_without_weights = dataclasses.replace(layer, weights=None)
    return ours, layer_without_weights.score(kvpress.SnapKVPress(window_size=64, kernel_size=5))[:, :-64]


def h2o(layer: Layer) -> tuple[torch.Tensor, torch.Tensor]:
    """The press divides by how many queries could see a key; H2O does not. Compared before that division."""
    theirs = layer.score(kvpress.ObservedAttentionPress()) * torch.arange(TOKENS, 0, -1)
    group = layer.queries.shape[1] // layer.keys.shape[1]
    return baselines.attention_received(layer.keys[0], layer.queries[0], layer.module.scaling) / group, theirs


def streaming(layer: Layer) -> tuple[torch.Tensor, torch.Tensor]:
    budget = int(TOKENS * KEEP_RATIO)
    ours = torch.zeros(layer.keys.shape[1:3])
    ours.scatter_(1, baselines.streaming_llm(layer.keys[0], None, None, budget), 1.0)
    return ours, layer.score(kvpress.StreamingLLMPress(compression_ratio=1 - KEEP_RATIO))


CHECKS = {
    "LagKV, kept of each chunk": (lagkv, False),
    "L2 norm, of each chunk": (lambda layer: chunked(layer, baselines.l2_norm_scores, kvpress.KnormPress()), True),
    "KeyDiff, of each chunk": (lambda layer: chunked(layer, baselines.keydiff_scores, kvpress.KeyDiffPress()), True),
    "SnapKV, window 64, kernel 5": (snapkv, True),
    "H2O, attention received": (h2o, True),
    "StreamingLLM, 4 sinks": (streaming, True),
}


@torch.no_grad()
def main() -> None:
    layers = seen("smollm2")
    print(f"kvpress on {len(layers)} layers of SmolLM2, {TOKENS:,} tokens of English, float32; a quarter is kept\n")
    print("| scorer | kept by both | of | largest relative difference of scores |\n| --- | --- | --- | --- |")
    for name, (check, comparable) in CHECKS.items():
        both = kept = 0
        difference = 0.0
        for layer in layers:
            ours, theirs = (scores.float() for scores in check(layer))
            budget = int(ours.shape[-1] * KEEP_RATIO)
            mine, other = (torch.zeros_like(x).scatter_(-1, x.topk(budget).indices, 1.0) for x in (ours, theirs))
            both, kept = both + int((mine * other).sum()), kept + int(mine.sum())
            difference = max(difference, float(((ours - theirs).abs() / theirs.abs().clamp(min=1e-9)).max()))
        print(f"| {name} | {both:,} | {kept:,} | {f'{difference:.1e}' if comparable else 'the press gives ranks'} |")


if __name__ == "__main__":
    main()
