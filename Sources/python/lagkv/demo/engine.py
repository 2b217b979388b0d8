"""The engines of the demonstration: processes of their own, because they are killed.

python -m lagkv.demo.engine compute ...   computes a prompt and streams its KV into a session; then waits to be killed
python -m lagkv.demo.engine resume ...    opens the session after that and goes on writing the text
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import safetensors.torch
import torch
import transformers

import lagkv
from lagkv import capture, models
from lagkv.hf import LagKVCache, ModelGeometry, cache_argument, forward


def compute(options: argparse.Namespace) -> None:
    """Computes the prompt `options.step` tokens at a time; each piece's KV is in the session before the next is computed.
    What the model computed is also saved as it is, to compare with what comes back."""
    tokenizer, model = models.load(options.model)
    ids = capture.english_ids(tokenizer, options.tokens)
    geometry = ModelGeometry.of(model)
    with lagkv.connect(options.socket) as client:
        session = client.create(
            options.session, layers=len(geometry.layers), kv_heads=geometry.kv_heads, key_dim=geometry.key_dim,
            value_dim=geometry.value_dim, dtype=geometry.dtype, capacity=geometry.positions, sink=options.sink, lag=options.lag,
            keep_ratio=options.keep_ratio, fingerprint=geometry.fingerprint,
        )  # fmt: skip
        cache = transformers.DynamicCache(config=model.config)
        computing = appending = 0.0
        for start in range(0, options.tokens, options.step):
            piece = ids[:, start : start + options.step]
            began = time.perf_counter()
            forward(model, piece, cache, logits_to_keep=1)
            computed = time.perf_counter()
            keys, values = (
                torch.stack([getattr(layer, part)[0, :, start:] for layer in cache.layers]).view(torch.uint16).numpy()
                for part in ("keys", "values")
            )
            session.append(keys, values, ids=piece[0].numpy())
            computing += computed - began
            appending += time.perf_counter() - computed
            say("tokens", done=start + piece.shape[1], of=options.tokens, rows=len(session.view(0)))
        began = time.perf_counter()
        session.sync(window=True)
        synced = time.perf_counter() - began
        tensors = {
            f"layer{i}.{p[0]}": getattr(layer, p)[0].contiguous()
            for i, layer in enumerate(cache.layers)
            for p in ("keys", "values")
        }
        safetensors.torch.save_file(tensors, options.expected)
        say("computed", computing=computing, appending=appending, synced=synced)
        time.sleep(3600)  # until the kill


def resume(options: argparse.Namespace) -> None:
    """Opens the session in a process that never saw the prompt, and lets the model go on from its hot view."""
    tokenizer, model = models.load(options.model)
    with lagkv.connect(options.socket) as client, LagKVCache.open(client, model, options.session) as cache:
        held = torch.from_numpy(cache.session.ids.astype("int64"))[None]
        # The last token is computed again, for its logits.
        cache.truncate(held.shape[1] - 1)
        began = time.perf_counter()
        text = model.generate(
            held,
            attention_mask=torch.ones_like(held),
            **{cache_argument(type(model)): cache},
            max_new_tokens=options.more,
            do_sample=False,
            pad_token_id=0,
        )
        say(
            "continued",
            text=tokenizer.decode(text[0, held.shape[1] :]),
            before=tokenizer.decode(held[0, -24:]),
            seconds=time.perf_counter() - began,
        )


def say(kind: str, **facts) -> None:
    print(json.dumps({"kind": kind, **facts}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lagkv.demo.engine")
    parser.add_argument("job", choices=("compute", "resume"))
    parser.add_argument("--socket", required=True)
    parser.add_argument("--session", required=True)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--step", type=int, default=128)
    parser.add_argument("--sink", type=int, default=16)
    parser.add_argument("--lag", type=int, default=128)
    parser.add_argument("--keep-ratio", type=float, default=0.125)
    parser.add_argument("--expected", help="where to save what the model computed")
    parser.add_argument("--more", type=int, default=32, help="tokens to go on with")
    options = parser.parse_args()
    sys.exit({"compute": compute, "resume": resume}[options.job](options))


if __name__ == "__main__":
    main()
