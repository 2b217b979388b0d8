"""Measures what a method keeps in memory and what that costs in answers.

    python -m lagkv.eval passkey --digits 8 64 --tokens 2048 --question inside --methods full lagkv lagkv+2 h2o --n 40
    python -m lagkv.eval nll --tokens 2048 --methods full lagkv lagkv+2
    python -m lagkv.eval longbench --data FILE.jsonl --methods full lagkv
    python -m lagkv.eval map --keep-ratio 0.125     # a picture of what each layer kept
    python -m lagkv.eval report                     # a table, CSV and plots of all results

What it costs an engine is measured by `python -m lagkv.eval.speed`.

Methods full, lagkv and lagkv+M (M recalled chunks a turn) run through a daemon ($LAGKVD_SOCKET, or --socket); lagkv-torch,
h2o, snapkv, streaming, l2norm, keydiff and random are references in torch at equal memory, h2o+M and snapkv+M at that of
lagkv+M. Results are appended to a file as they come: the same command again goes on where it stopped.
"""

from __future__ import annotations

import argparse
import itertools
import pathlib
import random
import sys
import time

import torch

import lagkv
from lagkv import capture, models
from lagkv.hf import forward

from . import longbench, methods, results
from .tasks import TASKS


class Run:
    """What all tasks share: the model, the daemon, the methods, and where results go."""

    def __init__(self, options: argparse.Namespace) -> None:
        torch.manual_seed(0)
        self.options = options
        self.tokenizer, self.model = models.load(options.model, options.dtype)
        self.client = lagkv.connect(options.socket)
        self.results = results.Results(options.output)
        self.methods = list(
            dict.fromkeys(
                methods.Method.parse(name, ratio, options.sink, options.lag)
                for name in options.methods
                for ratio in options.keep_ratio
            )
        )

    def cell(self, task: str, tokens: int, method: methods.Method, **more) -> dict:
        return {
            "model": self.options.model,
            "dtype": self.options.dtype,
            "task": task,
            "tokens": tokens,
            "method": str(method),
            "keep_ratio": method.keep_ratio,
            **more,
        }

    def ids(self, text: str) -> torch.Tensor:
        return self.tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids

    def step(self, cache, ids: torch.Tensor) -> torch.Tensor:
        return forward(self.model, ids, cache).logits[0]

    def record(self, cell: dict, **measured) -> None:
        self.results.add(cell | measured)
        shown = ", ".join(f"{cell[key]}" for key in (*results.CELL[2:], "seed") if cell.get(key) is not None)
        print(f"{shown}: {measured['score']:.4g} at {measured['share']:.3f}", file=sys.stderr, flush=True)


def retrieve(run: Run) -> None:
    """passkey, needle, multikey: the answer must be the hidden number, from its first character to its last."""
    options, known = run.options, []
    for tokens, digits, seed in itertools.product(options.tokens, options.digits, range(options.n)):
        hidden = {} if options.task == "multikey" else {"digits": digits}
        todo = {
            (question, method): cell
            for question, method in itertools.product(options.question, run.methods)
            if not run.results.has(cell := run.cell(options.task, tokens, method, **hidden, question=question, seed=seed))
        }
        if not todo:
            continue
        sample = TASKS[options.task](run.tokenizer, tokens, seed, digits)
        asked, right = run.ids(sample.question), run.ids(" " + sample.answer)[0]
        ids = run.ids(sample.context)
        longest = max(known, key=lambda prompt: prompt.shared(ids), default=None)
        context = methods.compute(run.model, ids, longest)
        # The one with the most filler before what it hides comes to stay.
        known = [longest or context, context]
        prompts = {"after": context}
        if any(question == "inside" for question, _ in todo):
            prompts["inside"] = methods.compute(run.model, torch.cat((ids, asked), 1), context)
        with methods.Sessions(run.client, run.model, context, ids.shape[1]) as sessions:
            for (question, method), cell in todo.items():
                began, prompt = time.perf_counter(), prompts[question]
                with methods.kept(run.model, sessions, prompt, method) as cache:
                    logits = prompt.logits if question == "inside" else run.step(cache, asked)[-1]
                    said, share = methods.answer(run.model, cache, logits, right, method)
                seconds, found = time.perf_counter() - began, said / len(right)
                run.record(cell, score=float(said == len(right)), found=found, share=share, seconds=seconds)


def likelihood(run: Run) -> None:
    """nll: held-out English in pieces of 64 tokens after a compressed prefix; the score is nats a token."""
    options = run.options
    text = run.ids(capture.english(options.text))
    for tokens, seed in itertools.product(options.tokens, range(options.n)):
        first = random.Random(seed).randrange(text.shape[1] - tokens)
        ids = text[:, first : first + tokens]
        prefix, rest = ids[:, : tokens * 3 // 4], ids[:, tokens * 3 // 4 :]
        cells = {method: run.cell("nll", tokens, method, seed=seed) for method in run.methods}
        todo = {method: cell for method, cell in cells.items() if not run.results.has(cell)}
        if not todo:
            continue
        prompt = methods.compute(run.model, prefix)
        with methods.Sessions(run.client, run.model, prompt, prefix.shape[1]) as sessions:
            for method, cell in todo.items():
                with methods.kept(run.model, sessions, prompt, method) as cache:
                    logits, shares = [prompt.logits[None]], []
                    for piece in rest.split(64, dim=1):
                        logits.append(run.step(cache, piece))
                        shares.append(methods.share(cache))
                    loss = torch.nn.functional.cross_entropy(torch.cat(logits)[:-1].float(), rest[0]).item()
                run.record(cell, score=loss, share=sum(shares) / len(shares))


def long_documents(run: Run) -> None:
    """longbench: its prompts, answered greedily, scored by its metrics."""
    options = run.options
    for path in options.data:
        for seed, sample in enumerate(longbench.read(path)[: options.n]):
            for tokens in options.tokens:
                cells = {method: run.cell(sample["dataset"], tokens, method, seed=seed) for method in run.methods}
                todo = {method: cell for method, cell in cells.items() if not run.results.has(cell)}
                if not todo:
                    continue
                ids = torch.tensor([longbench.prompt_ids(run.tokenizer, sample, tokens)])
                prompt = methods.compute(run.model, ids)
                # All but one token: what is left makes the prompt's last queries choose what is recalled.
                with methods.Sessions(run.client, run.model, prompt, ids.shape[1] - 1) as sessions:
                    for method, cell in todo.items():
                        with methods.kept(run.model, sessions, prompt, method) as cache:
                            said = written(run, cache, prompt.logits, longbench.PROMPTS[sample["dataset"]][1])
                            share = methods.share(cache)
                        text = run.tokenizer.decode(said, skip_special_tokens=True)
                        run.record(cell, score=longbench.score(sample, text), share=share)


def written(run: Run, cache, logits: torch.Tensor, limit: int) -> list[int]:
    """Greedy tokens until the model ends or the limit is reached."""
    said: list[int] = []
    while len(said) < limit:
        token = int(logits.argmax())
        if token == run.model.generation_config.eos_token_id:
            break
        said.append(token)
        logits = run.step(cache, torch.tensor([[token]]))[-1]
    return said


def report(options: argparse.Namespace) -> None:
    """Writes the results as a Markdown table, CSV, and plots beside the file."""
    found = results.Results(options.output)
    rows = sorted(found.cells(), key=lambda row: tuple(str(row.get(key)) for key in results.CELL))
    if not rows:
        raise SystemExit(f"lagkv.eval: no results in {options.output}")
    print(results.markdown(rows))
    results.write_csv(rows, options.output.with_suffix(".csv"))
    options.output.with_suffix(".md").write_text(results.markdown(rows) + "\n")
    results.plot(rows, options.output.with_suffix(".png"))


def kept_map(run: Run) -> None:
    """Which positions each layer kept of an English text, as a picture."""
    options = run.options
    ids = capture.english_ids(run.tokenizer, options.tokens[0], options.text)
    prompt = methods.compute(run.model, ids)
    with methods.Sessions(run.client, run.model, prompt, ids.shape[1]) as sessions:
        for method in run.methods:
            with methods.kept(run.model, sessions, prompt, method) as cache:
                path = options.output.with_name(f"kept-{method}-{method.keep_ratio:g}.png")
                results.plot_kept(methods.positions(cache), ids.shape[1], path)
                print(path)


JOBS = {**dict.fromkeys(TASKS, retrieve), "nll": likelihood, "longbench": long_documents, "map": kept_map}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m lagkv.eval", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=(*JOBS, "report"))
    parser.add_argument("--model", default="smollm2", help="one of `python -m lagkv.models`, a directory, or a hub name")
    parser.add_argument(
        "--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16",
        help="what the model computes in; float32 is the fast one on processors without bfloat16 instructions",
    )
    parser.add_argument("--methods", nargs="+", default=["full", "lagkv", "lagkv+2"], metavar="METHOD")
    parser.add_argument("--keep-ratio", nargs="+", type=float, default=[0.125], metavar="R")
    parser.add_argument("--sink", type=int, default=16)
    parser.add_argument("--lag", type=int, default=128)
    parser.add_argument("--tokens", nargs="+", type=int, default=[2048], help="length of the prompts")
    parser.add_argument("--digits", nargs="+", type=int, default=[16], help="length of what is hidden (passkey, needle)")
    parser.add_argument(
        "--question",
        nargs="+",
        choices=("inside", "after"),
        default=["inside"],
        help="asked in the prompt, or after it was compressed",
    )
    parser.add_argument("--n", type=int, default=40, help="samples a cell; their seeds are 0 to n-1")
    parser.add_argument("--text", metavar="FILE", help="English text (nll, map); default: Debian's licences")
    parser.add_argument("--data", nargs="+", type=pathlib.Path, default=[], metavar="FILE.jsonl", help="LongBench files")
    parser.add_argument("--socket", help="the daemon's socket")
    parser.add_argument("--output", type=pathlib.Path, default=models.cache_directory() / "eval" / "results.jsonl")
    options = parser.parse_args()
    if options.task == "report":
        report(options)
        return 0
    try:
        run = Run(options)
        JOBS[options.task](run)
    except (ValueError, OSError, lagkv.LagKVError, models.ModelError) as error:
        print(f"lagkv.eval: {error}", file=sys.stderr)
        return 1
    if options.task != "map":
        tasks = longbench.PROMPTS if options.task == "longbench" else (options.task,)
        print(results.markdown(row for row in run.results.cells() if row["task"] in tasks))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
