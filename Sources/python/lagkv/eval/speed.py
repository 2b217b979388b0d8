"""What it costs an engine to have its past in a session: parity with transformers' own cache, speed, and the price of recall."""

from __future__ import annotations

import pathlib
import random
import statistics
import time

import torch
import transformers

import lagkv
from lagkv import capture
from lagkv.hf import LagKVCache

NAME = "eval-speed"


def parity(client: lagkv.Client, model, tokenizer, prompts: int, longest: int, text: str | None) -> str:
    """Greedy answers with keep_ratio 1 against DynamicCache, over prompts of 200 to `longest` tokens."""
    ids = tokenizer(capture.english(text), return_tensors="pt").input_ids
    chance = random.Random(0)
    same_tokens = same_logits = 0
    for number in range(prompts):
        length = round(200 * (longest / 200) ** (number / max(1, prompts - 1)))
        start = chance.randrange(ids.shape[1] - length)
        prompt = ids[:, start : start + length]
        said, logits = _generated(model, prompt, transformers.DynamicCache(config=model.config), "sdpa")
        with _session(client, model, 1.0) as cache:
            again, again_logits = _generated(model, prompt, cache, "lagkv")
        same_tokens += torch.equal(said, again)
        same_logits += torch.equal(logits, again_logits)
    same = f"{same_tokens} with the same tokens, {same_logits} with every logit the same"
    return f"{prompts} prompts of 200 to {longest:,} tokens: {same}"


def _generated(model, ids, cache, attention: str) -> tuple[torch.Tensor, torch.Tensor]:
    model.set_attn_implementation(attention)
    result = model.generate(
        ids, attention_mask=torch.ones_like(ids), past_key_values=cache, max_new_tokens=16, do_sample=False,
        pad_token_id=0, return_dict_in_generate=True, output_logits=True,
    )  # fmt: skip
    return result.sequences, torch.stack(result.logits)


class _session:
    """A session of that ratio for the length of a `with`, and gone after it."""

    def __init__(self, client: lagkv.Client, model, keep_ratio: float, recall: int = 0) -> None:
        self._client = client
        self._cache = LagKVCache.create(client, model, NAME, keep_ratio=keep_ratio, recall=recall)

    def __enter__(self) -> LagKVCache:
        return self._cache

    def __exit__(self, *_) -> None:
        self._cache.close()
        self._client.delete(NAME)


def speeds(client: lagkv.Client, model, tokenizer, contexts: list[int], text: str | None, steps: int = 32) -> list[dict]:
    """Decoded tokens a second after each context, by DynamicCache and by sessions: rounds of all of them in turn, and the
    median of the rounds, because other programs run too."""
    rows = []
    for context in contexts:
        ids = capture.english_ids(tokenizer, context, text)
        past = transformers.DynamicCache(config=model.config)
        model.set_attn_implementation("sdpa")
        with torch.inference_mode():
            for piece in ids.split(512, dim=1):
                model(piece, past_key_values=past, use_cache=True, logits_to_keep=1)
        rounds: dict[str, list[float]] = {}
        for _ in range(3):
            own = transformers.DynamicCache(config=model.config)
            for index, layer in enumerate(past.layers):
                own.update(layer.keys, layer.values, index)
            model.set_attn_implementation("sdpa")
            rounds.setdefault("DynamicCache", []).append(_decode(model, own, steps))
            for ratio in (1.0, 0.125):
                with _session(client, model, ratio) as cache:
                    cache.adopt(past, ids)
                    model.set_attn_implementation("lagkv")
                    rounds.setdefault(f"lagkv, r={ratio:g}", []).append(_decode(model, cache, steps))
        rows += [
            {"context": context, "cache": name, "tokens_per_second": statistics.median(each)} for name, each in rounds.items()
        ]
    return rows


def _decode(model, cache, steps: int) -> float:
    token = torch.tensor([[5]])
    with torch.inference_mode():
        for _ in range(4):
            model(token, past_key_values=cache, use_cache=True)
        began = time.perf_counter()
        for _ in range(steps):
            model(token, past_key_values=cache, use_cache=True)
        return steps / (time.perf_counter() - began)


def recall_cost(client: lagkv.Client, model, tokenizer, context: int, text: str | None, chunks: int = 2) -> dict:
    """Milliseconds to recall so many chunks of every layer and head in one message, with the evicted parts in the kernel's
    file cache (the second time) and after it was dropped (only root may; None where it could not be)."""
    ids = capture.english_ids(tokenizer, context, text)
    past = transformers.DynamicCache(config=model.config)
    with torch.inference_mode():
        for piece in ids.split(512, dim=1):
            model(piece, past_key_values=past, use_cache=True, logits_to_keep=1)
    with _session(client, model, 0.125) as cache:
        cache.adopt(past, ids)
        session = cache.session
        session.sync()
        heads = session.description.kv_heads
        before = len(session.view(0))
        chosen = {layer: [list(range(chunks))] * heads for layer in range(session.description.layers)}

        def once() -> float:
            began = time.perf_counter()
            session.recall_layers(chosen)
            return (time.perf_counter() - began) * 1e3

        try:
            pathlib.Path("/proc/sys/vm/drop_caches").write_text("3\n")
            cold = once()
        except OSError:
            cold = None
        session.release()
        warm = []
        for _ in range(5):
            warm.append(once())
            rows = len(session.view(0)) - before
            session.release()
        d = session.description
        size = rows * d.layers * d.kv_heads * (d.key_dim + d.value_dim) * past.layers[0].keys.element_size()
        return {"chunks": chunks, "bytes": size, "warm_ms": statistics.median(warm), "cold_ms": cold}
