"""Saves a real model's KV of real English text: what `lagkvctl replay`, the benchmarks and the tests are fed with.

    python -m lagkv.capture --model smollm2 --tokens 2048 --output FILE.safetensors

The file holds `layerN.k` and `layerN.v`, each [heads, tokens, dim] in the model's own type, keys after the rotary
embedding, as a cache stores them. The text is what every Debian has: the licences in /usr/share/common-licenses.
"""

from __future__ import annotations

import argparse
import pathlib
import sys

LICENSES = pathlib.Path("/usr/share/common-licenses")
# Prose of similar kind, the longest first; links to these under shorter names would only repeat them.
TEXTS = ("GPL-3", "GPL-2", "LGPL-2.1", "GFDL-1.3", "MPL-2.0", "MPL-1.1", "Apache-2.0", "CC0-1.0", "LGPL-3", "GPL-1", "Artistic")


def english(text: str | pathlib.Path | None = None) -> str:
    """English prose: the file named, else Debian's licences in a fixed order (about 220 kB). Raises FileNotFoundError."""
    if text is not None:
        return pathlib.Path(text).read_text(encoding="utf-8")
    found = [LICENSES / name for name in TEXTS if (LICENSES / name).is_file()]
    if not found:
        raise FileNotFoundError(f"no texts in {LICENSES}: name an English text file of your own")
    return "\n".join(" ".join(path.read_text(encoding="utf-8").split()) for path in found)


def english_ids(tokenizer, tokens: int, text: str | pathlib.Path | None = None):
    """The first `tokens` token ids of `english(text)`, [1, tokens]. Raises ValueError where the text is too short."""
    prose = english(text)
    # Six characters a token leave a margin, and save the tokenizer the rest of a long text.
    ids = tokenizer(prose[: 6 * tokens + 1000], return_tensors="pt").input_ids[:, :tokens]
    if ids.shape[1] < tokens:
        raise ValueError(f"the text has {ids.shape[1]:,} tokens, {tokens:,} were asked for: name a longer text")
    return ids


def capture(model, ids, step: int = 512):
    """The KV cache of `ids` [1, tokens]: a list of (keys, values) by layer, each [heads, tokens, dim].
    Computed `step` tokens at a time. Raises ValueError for a model whose cache does not hold every token (sliding windows)."""
    import transformers

    from .hf import forward

    cache = transformers.DynamicCache()
    for start in range(0, ids.shape[1], step):
        forward(model, ids[:, start : start + step], cache, logits_to_keep=1)
        if sys.stderr.isatty():
            print(f"\r{min(start + step, ids.shape[1]):,} of {ids.shape[1]:,} tokens", end="", file=sys.stderr)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    layers = [(layer.keys[0].contiguous(), layer.values[0].contiguous()) for layer in cache.layers]
    for index, (keys, _) in enumerate(layers):
        if keys.shape[1] != ids.shape[1]:
            raise ValueError(f"layer {index} holds {keys.shape[1]:,} of {ids.shape[1]:,} tokens: not a layer of full attention")
    return layers


def main() -> int:
    from lagkv import models

    parser = argparse.ArgumentParser(prog="python -m lagkv.capture", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--model", default="smollm2", help="one of `python -m lagkv.models`, a directory, or a hub name (default: smollm2)"
    )
    parser.add_argument("--tokens", type=int, default=2048, help="tokens to capture (default: 2048)")
    parser.add_argument("--text", metavar="FILE", help="English text (default: Debian's licences)")
    parser.add_argument("--output", metavar="FILE.safetensors", required=True)
    arguments = parser.parse_args()

    import safetensors.torch

    tokenizer, model = models.load(arguments.model)
    try:
        ids = english_ids(tokenizer, arguments.tokens, arguments.text)
        layers = capture(model, ids)
    except (FileNotFoundError, ValueError) as error:
        print(f"lagkv.capture: {error}", file=sys.stderr)
        return 1
    tensors = {}
    for index, (keys, values) in enumerate(layers):
        tensors[f"layer{index}.k"], tensors[f"layer{index}.v"] = keys, values
    output = pathlib.Path(arguments.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file(tensors, output, {"model": arguments.model, "tokens": str(arguments.tokens)})
    heads, _, dim = layers[0][0].shape
    print(
        f"{output}: {len(layers)} layers of {heads} heads, {arguments.tokens:,} tokens of {dim}, {output.stat().st_size:,} bytes"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
