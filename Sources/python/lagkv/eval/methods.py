"""One prompt, computed once, then answered from what each method keeps of it."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
from collections.abc import Iterator

import torch
import transformers
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

import lagkv
from lagkv.hf import LagKVCache

from .baselines import CHUNKED, WHOLE, Policy, Pruned

NAMES = ("full", "lagkv", *CHUNKED, *WHOLE)


@dataclasses.dataclass(frozen=True)
class Method:
    """What is kept and how much: `recall` chunks come back for a turn (lagkv); a method of the whole prompt gets the memory
    that LagKV with so many would use."""

    name: str
    keep_ratio: float
    recall: int = 0
    sink: int = 16
    lag: int = 128

    @classmethod
    def parse(cls, text: str, keep_ratio: float, sink: int, lag: int) -> Method:
        """NAME or NAME+CHUNKS, such as lagkv+2. Raises ValueError."""
        name, _, chunks = text.partition("+")
        if name not in NAMES:
            raise ValueError(f"no method {name!r}; there are {', '.join(NAMES)}, and each but full with +CHUNKS of recall")
        return cls(name, 1.0 if name == "full" else keep_ratio, int(chunks or 0), sink, lag)

    def __str__(self) -> str:
        return self.name + (f"+{self.recall}" if self.recall else "")

    @property
    def policy(self) -> Policy:
        return Policy(self.sink, self.lag, self.keep_ratio)


@dataclasses.dataclass(frozen=True)
class Prompt:
    """A prompt as the model computed it, exactly: its ids [1, n], keys and values, every layer's queries [query heads, n,
    dim], and the logits of its last token."""

    ids: torch.Tensor
    past: transformers.DynamicCache
    queries: list[torch.Tensor]
    logits: torch.Tensor


_queries: list[torch.Tensor] = []


def _remembering(module, query, *arguments, **named):
    _queries.append(query[0])
    return sdpa_attention_forward(module, query, *arguments, **named)


def compute(model, ids: torch.Tensor) -> Prompt:
    """One exact forward call over the whole prompt."""
    AttentionInterface.register("lagkv-eval", _remembering)
    AttentionMaskInterface.register("lagkv-eval", sdpa_mask)
    model.set_attn_implementation("lagkv-eval")
    _queries.clear()
    past = transformers.DynamicCache(config=model.config)
    with torch.inference_mode():
        logits = model(ids, past_key_values=past, use_cache=True, logits_to_keep=1).logits[0, -1]
    return Prompt(ids, past, list(_queries), logits)


@contextlib.contextmanager
def kept(client: lagkv.Client, model, prompt: Prompt, method: Method) -> Iterator[transformers.Cache]:
    """A cache that holds what the method keeps of the prompt, ready for the model to go on."""
    if method.name not in ("full", "lagkv"):
        cache = Pruned(len(prompt.past.layers), method.name, method.policy)
        for layer, computed in zip(cache.layers, prompt.past.layers, strict=True):
            layer.update(computed.keys, computed.values)
        extra = method.recall * (method.lag - method.policy.kept())
        cache.settle(prompt.queries, prompt.queries[0].shape[-1] ** -0.5, extra)
        model.set_attn_implementation("sdpa")
        yield cache
        return
    name = f"eval-{os.getpid()}-{next(_numbers)}"
    cache = LagKVCache.create(
        client, model, name, keep_ratio=method.keep_ratio, sink=method.sink, lag=method.lag, recall=method.recall, disposable=True
    )
    try:
        cache.adopt(prompt.past, prompt.ids, dict(enumerate(prompt.queries)))
        yield cache
    finally:
        cache.close()
        client.delete(name)


_numbers = itertools.count()


def resident(cache: transformers.Cache) -> int:
    """Rows a layer holds now, recalled ones included; the mean over layers."""
    if isinstance(cache, LagKVCache):
        layers = range(cache.session.description.layers)
        rows = [len(cache.session.view(layer)) for layer in layers]
    else:
        rows = [layer.keys.shape[2] for layer in cache.layers]
    return sum(rows) // len(rows)


def answer(model, tokenizer, cache, logits: torch.Tensor, right: str, limit: int) -> tuple[str, int]:
    """Greedy tokens after `logits`, until they are `right`, can no longer be, or `limit` is reached; returns the text and how
    many rows were resident at the last step."""
    said: list[int] = []
    text = ""
    while len(said) < limit:
        said.append(int(logits.argmax()))
        text = tokenizer.decode(said).lstrip(" \n\"'“").rstrip()
        if not right.startswith(text[: len(right)]) or text.startswith(right):
            break
        with torch.inference_mode():
            logits = model(torch.tensor([said[-1:]]), past_key_values=cache, use_cache=True).logits[0, -1]
    return text, resident(cache)
