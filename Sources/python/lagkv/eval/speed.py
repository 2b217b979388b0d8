"""What an engine gets, and what it pays, when its past lies in a session.

    python -m lagkv.eval.speed parity       # keep_ratio 1 says what transformers' own cache says
    python -m lagkv.eval.speed reference    # keep_ratio < 1 says what the algorithm in plain torch says
    python -m lagkv.eval.speed decode       # tokens a second beside transformers' own cache
    python -m lagkv.eval.speed recall       # what a turn's recall costs
"""

from __future__ import annotations

import argparse
import os
import pathlib
import random
import re
import statistics
import sys
import time
from collections.abc import Iterator

import torch
import transformers

import lagkv
from lagkv import capture, models
from lagkv.hf import LagKVCache, forward

from .baselines import Policy, Pruned

RATIOS = (0.5, 0.25, 0.125)


class _session:
    """A session of that ratio for the length of a `with`, and gone after it."""

    def __init__(self, client: lagkv.Client, model, keep_ratio: float, recall: int = 0) -> None:
        self._client = client
        self._name = f"eval-{os.getpid()}-{keep_ratio:g}-{recall}"
        self._cache = LagKVCache.create(client, model, self._name, keep_ratio=keep_ratio, recall=recall, disposable=True)

    def __enter__(self) -> LagKVCache:
        return self._cache

    def __exit__(self, *_) -> None:
        self._cache.close()
        self._client.delete(self._name)


def _prompts(tokenizer, prompts: int, longest: int, text: str | None) -> Iterator[torch.Tensor]:
    """English of 200 to `longest` tokens, [1, n] each, from anywhere in the text."""
    ids = tokenizer(capture.english(text), return_tensors="pt").input_ids
    chance = random.Random(0)
    for number in range(prompts):
        length = round(200 * (longest / 200) ** (number / max(1, prompts - 1)))
        start = chance.randrange(ids.shape[1] - length)
        print(f"prompt {number + 1} of {prompts}: {length:,} tokens", file=sys.stderr, flush=True)
        yield ids[:, start : start + length]


def _past(model, ids: torch.Tensor) -> transformers.DynamicCache:
    """The prompt, computed exactly."""
    past = transformers.DynamicCache(config=model.config)
    model.set_attn_implementation("sdpa")
    for piece in ids.split(512, dim=1):
        forward(model, piece, past, logits_to_keep=1)
    return past


def _greedy(model, attention: str, cache, ids: torch.Tensor, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens that follow `ids` [1, n] after what the cache holds, and the logits they were chosen by."""
    model.set_attn_implementation(attention)
    said, logits = [], []
    for _ in range(steps):
        logits.append(forward(model, ids, cache, logits_to_keep=1).logits[0, -1])
        ids = logits[-1].argmax()[None, None]
        said.append(int(ids))
    return torch.tensor(said), torch.stack(logits)


def parity(client: lagkv.Client, model, tokenizer, prompts: int, longest: int, text: str | None, steps: int = 16) -> dict:
    """Greedy answers with keep_ratio 1 against DynamicCache, over prompts of 200 to `longest` tokens, each in one call; and
    after them a second message with its answer, whose call attends with a mask."""
    found = {"prompts": prompts, "longest": longest, "steps": steps, "same_tokens": 0, "same_bits": 0, "apart": 0.0}
    for ids in _prompts(tokenizer, prompts, longest, text):
        own = transformers.DynamicCache(config=model.config)
        with _session(client, model, 1.0) as cache:
            expected = [_greedy(model, "sdpa", own, part, steps) for part in (ids, ids[:, :40])]
            got = [_greedy(model, "lagkv", cache, part, steps) for part in (ids, ids[:, :40])]
        pairs = list(zip(got, expected, strict=True))
        found["same_tokens"] += all(torch.equal(a[0], b[0]) for a, b in pairs)
        found["same_bits"] += all(torch.equal(a[1], b[1]) for a, b in pairs)
        found["apart"] = max(found["apart"], *((a[1] - b[1]).abs().max().item() for a, b in pairs))
    return found


def show_parity(found: dict) -> str:
    return (
        "{prompts} prompts of 200 to {longest:,} tokens, two answers of {steps} tokens each: {same_tokens} with the same "
        "tokens, {same_bits} with every logit the same bit for bit; logits differ by at most {apart:.2g}"
    ).format(**found)


def reference(
    client: lagkv.Client, model, tokenizer, prompts: int, longest: int, text: str | None, steps: int = 32
) -> list[dict]:
    """Greedy answers with sessions that evict against LagKV in plain torch, for each ratio: the same prompt, computed exactly,
    then compressed by each. Rows that one keeps and the other does not are near-ties of the scores, and counted."""
    same = {"prompts": prompts, "longest": longest, "steps": steps}
    found = {
        ratio: same | {"keep_ratio": ratio, "same_tokens": 0, "same_bits": 0, "other_rows": 0, "rows": 0} for ratio in RATIOS
    }
    for ids in _prompts(tokenizer, prompts, longest, text):
        past = _past(model, ids[:, :-1])
        for ratio, row in found.items():
            own = Pruned(len(past.layers), "lagkv-torch", Policy(keep_ratio=ratio))
            for layer, computed in zip(own.layers, past.layers, strict=True):
                layer.update(computed.keys, computed.values)
            with _session(client, model, ratio) as cache:
                cache.adopt(past, ids[:, :-1])
                expected, got = (_greedy(model, *each, ids[:, -1:], steps) for each in (("sdpa", own), ("lagkv", cache)))
                kept = [torch.from_numpy(cache.session.view(layer).positions.copy()) for layer in range(len(own.layers))]
            row["same_tokens"] += torch.equal(got[0], expected[0])
            row["same_bits"] += torch.equal(got[1], expected[1])
            row["other_rows"] += sum(int((a != b.positions).sum()) for a, b in zip(kept, own.layers, strict=True))
            row["rows"] += sum(a.numel() for a in kept)
    return list(found.values())


def show_reference(found: list[dict]) -> str:
    line = (
        "r={keep_ratio:g}: {prompts} prompts of 200 to {longest:,} tokens and {steps} more: {same_tokens} with the same "
        "tokens, {same_bits} with every logit the same bit for bit; {other_rows:,} of {rows:,} rows from another position"
    )
    return "\n".join(line.format(**row) for row in found)


def speeds(client: lagkv.Client, model, tokenizer, contexts: list[int], text: str | None, rounds: int = 15) -> list[dict]:
    """Decoded tokens a second after each context, by DynamicCache and by sessions. Other programs run too: so all caches
    decode a few tokens in turn, many times; a speed is the median of the rounds, and a ratio the median of the ratios within
    a round."""
    rows = []
    for context in contexts:
        ids = capture.english_ids(tokenizer, context, text)
        past = _past(model, ids)
        with _session(client, model, 1.0) as whole, _session(client, model, 0.125) as part:
            for cache in (whole, part):
                cache.adopt(past, ids)
            caches = {"DynamicCache": past, "lagkv, r=1": whole, "lagkv, r=0.125": part}
            measured = [{name: _decode(model, cache) for name, cache in caches.items()} for _ in range(rounds + 1)][1:]
        for name in caches:
            rows.append(
                {
                    "context": context,
                    "cache": name,
                    "tokens_per_second": statistics.median(each[name] for each in measured),
                    "ratio": statistics.median(each[name] / each["DynamicCache"] for each in measured),
                }
            )
    return rows


def _decode(model, cache, steps: int = 8) -> float:
    model.set_attn_implementation("lagkv" if isinstance(cache, LagKVCache) else "sdpa")
    token = torch.tensor([[5]])
    began = time.perf_counter()
    for _ in range(steps):
        forward(model, token, cache)
    return steps / (time.perf_counter() - began)


def recall_cost(client: lagkv.Client, model, tokenizer, context: int, text: str | None, chunks: int = 2) -> dict:
    """What a turn's recall of so many chunks adds to the turn, ranking included: milliseconds of the requests that each layer
    makes as it attends, of one request for all layers, the bytes that join the view, and the coded bytes read for them. With
    the evicted parts in the kernel's file cache, and after it was dropped (only root may; None where it could not be)."""
    ids = capture.english_ids(tokenizer, context, text)
    past = _past(model, ids)
    with _session(client, model, 0.125, chunks) as cache:
        cache.adopt(past, ids)
        cache.sync()
        model.set_attn_implementation("lagkv")
        turn = _Turn(client, model, cache, ids[:, -8:])
        cold = turn.cost() if _drop_caches() else (None, None)
        warm = [turn.cost() for _ in range(7)]
        at_once = []
        for _ in range(7):
            began = time.perf_counter()
            cache.recall_now()
            at_once.append((time.perf_counter() - began) * 1e3)
        d = cache.session.description
        rows = chunks * (d.lag - int(d.keep_ratio * d.lag))
        size = rows * d.layers * d.kv_heads * (d.key_dim + d.value_dim) * past.layers[0].keys.element_size()
        return {
            "chunks": chunks, "bytes": size, "read_bytes": warm[0][1], "warm_ms": statistics.median(each[0] for each in warm),
            "cold_ms": cold[0], "at_once_ms": statistics.median(at_once),
        }  # fmt: skip


class _Turn:
    """A question after a context, asked again and again; counts what its recall takes."""

    def __init__(self, client: lagkv.Client, model, cache: LagKVCache, question: torch.Tensor) -> None:
        self._client, self._model, self._cache, self._question = client, model, cache, question
        self._tokens = cache.get_seq_length()
        self._seconds = 0.0
        (self._sequence,) = cache.sequences_of(cache.geometry.layers[0])
        self._recall = self._sequence.recall_layers
        self._sequence.recall_layers = self._timed

    def _timed(self, layers: list[int]) -> None:
        began = time.perf_counter()
        self._recall(layers)
        self._seconds += time.perf_counter() - began

    def cost(self) -> tuple[float, int]:
        """Milliseconds of recall in one turn, and the coded bytes that the daemon read meanwhile."""
        self._cache.truncate(self._tokens)
        self._seconds, read = 0.0, self._bytes_read()
        forward(self._model, self._question, self._cache)
        return self._seconds * 1e3, self._bytes_read() - read

    def _bytes_read(self) -> int:
        return int(re.search(r"^lagkvd_disk_read_bytes_total (\d+)", self._client.metrics(), re.MULTILINE)[1])


def _drop_caches() -> bool:
    try:
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("3\n")
    except OSError:
        return False
    return True


def show_speeds(rows: list[dict]) -> str:
    return "\n".join(
        f"{row['context']:>6,} tokens  {row['cache']:<16}{row['tokens_per_second']:8.1f} tokens/s  {row['ratio']:7.1%}"
        for row in rows
    )


def show_recall(context: int, cost: dict) -> str:
    cold = "only root can tell" if cost["cold_ms"] is None else f"{cost['cold_ms']:.1f} ms"
    return (
        f"recall of {cost['chunks']} chunks of all layers and heads after {context:,} tokens: {cost['bytes']:,} B join the "
        f"view, {cost['read_bytes']:,} B read; a turn: warm {cost['warm_ms']:.1f} ms, cold {cold}; "
        f"all layers in one request, warm: {cost['at_once_ms']:.1f} ms"
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m lagkv.eval.speed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("parity", "reference", "decode", "recall"))
    parser.add_argument("--model", default="smollm2", help="one of `python -m lagkv.models`, a directory, or a hub name")
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    parser.add_argument(
        "--tokens", nargs="+", type=int, default=[4000], help="the longest prompt; the contexts of decode and recall"
    )
    parser.add_argument("--n", type=int, default=20, help="prompts")
    parser.add_argument("--chunks", type=int, default=2, help="chunks to recall")
    parser.add_argument("--text", metavar="FILE", help="English text; default: Debian's licences")
    parser.add_argument("--socket", help="the daemon's socket")
    options = parser.parse_args()
    try:
        tokenizer, model = models.load(options.model, options.dtype)
        parts = (lagkv.connect(options.socket), model, tokenizer)
        if options.what == "decode":
            print(show_speeds(speeds(*parts, options.tokens, options.text)))
        elif options.what == "recall":
            for context in options.tokens:
                print(show_recall(context, recall_cost(*parts, context, options.text, options.chunks)))
        elif options.what == "parity":
            print(show_parity(parity(*parts, options.n, max(options.tokens), options.text)))
        else:
            print(show_reference(reference(*parts, options.n, max(options.tokens), options.text)))
    except (ValueError, OSError, lagkv.LagKVError, models.ModelError) as error:
        print(f"lagkv.eval: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
