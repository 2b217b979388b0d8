"""One prompt, computed once, then answered from what each method keeps of it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterator

import torch
import transformers
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

import lagkv
from lagkv.hf import LagKVCache, forward

from .baselines import CHUNKED, WHOLE, Policy, Pruned
from .rules import RULES

NAMES = ("full", "lagkv", *CHUNKED, *WHOLE)

# Tokens of an answer that are checked in one call. Questions are longer, and begin a turn.
CHECKED = 8


@dataclasses.dataclass(frozen=True)
class Method:
    """What is kept and how much: `recall` chunks come back for a turn (lagkv); a method of the whole prompt gets the memory
    that LagKV with so many would use. value_weight: LagKV's α. uncompressed_layers: those where it evicts nothing."""

    name: str
    keep_ratio: float
    recall: int = 0
    sink: int = 16
    lag: int = 128
    rule: str = "default"
    value_weight: float = 1.0
    uncompressed_layers: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str, keep_ratio: float, sink: int, lag: int) -> Method:
        """NAME, of lagkv also NAME:ALPHA and NAME@LAYERS; then maybe +CHUNKS, such as lagkv+2, and /RULE: all of it is
        lagkv:10@0,29+2/max. Raises ValueError."""
        parts = re.fullmatch(r"([^:@+/]+)(?::(\d+\.?\d*))?(?:@(\d+(?:,\d+)*))?(?:\+(\d+)(?:/(.+))?)?", text)
        if not parts:
            raise ValueError(f"method {text!r}: expected NAME[:ALPHA][@LAYER,LAYER…][+CHUNKS[/RULE]]")
        name, alpha, layers, chunks, rule = parts.groups()
        if name not in NAMES:
            raise ValueError(f"no method {name!r}; there are {', '.join(NAMES)}, and each but full with +CHUNKS of recall")
        if name != "lagkv" and (alpha or layers or rule):
            raise ValueError(f"method {text!r}: a weight of the values, uncompressed layers and rules are lagkv's")
        if rule and rule not in RULES:
            raise ValueError(f"method {text!r}: no rule {rule!r}; there are {', '.join(RULES)}")
        ratio = 1.0 if name == "full" else keep_ratio
        whole = tuple(int(layer) for layer in layers.split(",")) if layers else ()
        return cls(name, ratio, int(chunks or 0), sink, lag, rule or "default", float(alpha or 1), whole)

    def __str__(self) -> str:
        alpha = f":{self.value_weight:g}" if self.value_weight != 1 else ""
        layers = "@" + ",".join(map(str, self.uncompressed_layers)) if self.uncompressed_layers else ""
        recall = f"+{self.recall}" if self.recall else ""
        return self.name + alpha + layers + recall + (f"/{self.rule}" if self.rule != "default" else "")

    @property
    def policy(self) -> Policy:
        return Policy(self.sink, self.lag, self.keep_ratio, self.value_weight, self.uncompressed_layers)


@dataclasses.dataclass(frozen=True)
class Prompt:
    """A prompt as the model computed it, exactly: its ids [1, n], keys and values, every layer's queries [query heads, n,
    dim], and the logits of its last token."""

    ids: torch.Tensor
    past: transformers.DynamicCache
    queries: list[torch.Tensor]
    logits: torch.Tensor

    def shared(self, ids: torch.Tensor) -> int:
        """How many first tokens of `ids` [1, n] are this prompt's; at least one is left to compute, for its logits."""
        n = min(self.ids.shape[1], ids.shape[1] - 1)
        differing = (self.ids[0, :n] != ids[0, :n]).nonzero()
        return int(differing[0]) if len(differing) else n

    def part(self, first: int, end: int) -> transformers.DynamicCache:
        """Keys and values of the tokens first to end - 1."""
        part = transformers.DynamicCache()
        for index, layer in enumerate(self.past.layers):
            part.update(layer.keys[:, :, first:end], layer.values[:, :, first:end], index)
        return part


_queries: list[torch.Tensor] = []


def _remembering(module, query, *arguments, **named):
    _queries.append(query[0])
    return sdpa_attention_forward(module, query, *arguments, **named)


def compute(model, ids: torch.Tensor, before: Prompt | None = None) -> Prompt:
    """The whole prompt, with exact attention. What it shares with the beginning of the prompt `before` is not computed again:
    filler is the same from sample to sample, and a question follows a context that was computed without it."""
    AttentionInterface.register("lagkv-eval", _remembering)
    AttentionMaskInterface.register("lagkv-eval", sdpa_mask)
    model.set_attn_implementation("lagkv-eval")
    past = transformers.DynamicCache(config=model.config)
    shared = before.shared(ids) if before else 0
    if shared:
        for index, layer in enumerate(before.past.layers):
            past.update(layer.keys[:, :, :shared], layer.values[:, :, :shared], index)
    _queries.clear()
    logits = forward(model, ids[:, shared:], past, logits_to_keep=1).logits[0, -1]
    queries = [torch.cat((old[:, :shared], new), 1) for old, new in zip(before.queries, _queries)] if shared else list(_queries)
    return Prompt(ids, past, queries, logits)


class Sessions:
    """The sessions that hold the first tokens of a prompt, one for each policy: what several methods share is appended once.
    They are deleted at the end of a `with`."""

    def __init__(self, client: lagkv.Client, model, prompt: Prompt, tokens: int) -> None:
        self._client, self._model, self._prompt, self.tokens = client, model, prompt, tokens
        self._names: dict[Policy, str] = {}

    @contextlib.contextmanager
    def opened(self, method: Method) -> Iterator[LagKVCache]:
        """The session of the method's policy, with the recall of the method; what is appended to it is taken away again."""
        if method.policy not in self._names:
            self._create(method.policy)
        keys = [layer.keys[0] for layer in self._prompt.past.layers]
        recall = RULES[method.rule].recall(method.recall, CHECKED, keys, method.policy)
        with LagKVCache.open(self._client, self._model, self._names[method.policy], recall=recall) as cache:
            yield cache
            cache.release()
            cache.truncate(self.tokens)

    def _create(self, policy: Policy) -> None:
        name = f"eval-{os.getpid()}-{len(self._names)}"
        with LagKVCache.create(self._client, self._model, name, disposable=True, **dataclasses.asdict(policy)) as cache:
            self._names[policy] = name
            cache.adopt(self._prompt.part(0, self.tokens), self._prompt.ids[:, : self.tokens])

    def __enter__(self) -> Sessions:
        return self

    def __exit__(self, *_) -> None:
        for name in self._names.values():
            self._client.delete(name)


@contextlib.contextmanager
def kept(model, sessions: Sessions, prompt: Prompt, method: Method) -> Iterator[transformers.Cache]:
    """A cache that holds what the method keeps of the prompt, ready for the model to go on. What the prompt has beyond the
    tokens of `sessions` is its question, whose queries choose what is recalled."""
    if method.name in ("full", "lagkv"):
        with sessions.opened(method) as cache:
            first, end = sessions.tokens, prompt.ids.shape[1]
            if first < end:
                cache.adopt(prompt.part(first, end), prompt.ids[:, first:], dict(enumerate(prompt.queries)))
            yield cache
        return
    cache = Pruned(len(prompt.past.layers), method.name, method.policy)
    for layer, computed in zip(cache.layers, prompt.past.layers, strict=True):
        layer.update(computed.keys, computed.values)
    extra = method.recall * (method.lag - method.policy.kept())
    cache.settle(prompt.queries, prompt.queries[0].shape[-1] ** -0.5, extra)
    model.set_attn_implementation("sdpa")
    yield cache


def share(cache: transformers.Cache) -> float:
    """The rows that are resident now, recalled ones included, of those of the full cache; the mean over layers."""
    rows = [of_layer.shape[1] for of_layer in positions(cache)]
    return sum(rows) / len(rows) / cache.get_seq_length()


def positions(cache: transformers.Cache) -> list:
    """By layer, where each resident row came from, [heads, rows]."""
    if isinstance(cache, LagKVCache):
        return [cache.session.view(layer).positions for layer in range(cache.session.description.layers)]
    return [layer.positions for layer in cache.layers]


def entropy(logits: torch.Tensor) -> float:
    """Of the distribution over the next token, in nats."""
    return torch.distributions.Categorical(logits=logits.float()).entropy().item()


def answer(model, cache, logits: torch.Tensor, right: torch.Tensor, method: Method) -> tuple[int, float]:
    """How many of the tokens `right` [n] greedy decoding says before its first mistake, beginning with `logits`, and the
    largest share that was held meanwhile.

    While it is right, what it says is known: so it is checked, a few tokens a call, instead of being decoded one by one. A
    call never goes beyond the end of a chunk, where tokens are evicted, nor beyond the point where another choice is recalled:
    every token finds resident what it would find alone.
    """
    rule = RULES[method.rule]
    refresh = 1 if rule.doubt else rule.options.get("refresh", CHECKED)
    held = [share(cache)]
    predicted = logits.argmax().reshape(1)
    said = 0
    while True:
        mistakes = (predicted != right[said : said + len(predicted)]).nonzero()
        if len(mistakes):
            return said + int(mistakes[0]), max(held)
        said += len(predicted)
        if said == len(right):
            return said, max(held)
        # All but the last token known to be right are in the cache.
        fed = said - 1
        to_chunk_end = method.lag - (cache.get_seq_length() - method.sink) % method.lag
        piece = right[fed : min(fed + min(CHECKED, to_chunk_end, refresh - fed % refresh), len(right) - 1)]
        logits = forward(model, piece[None], cache).logits[0]
        predicted = logits.argmax(dim=-1)
        if rule.doubt and entropy(logits[-1]) > rule.doubt:
            cache.recall_now()
        held.append(share(cache))
