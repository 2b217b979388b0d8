"""Results as they come: one JSON line a sample, appended at once, so that a run that was cut off goes on where it stopped."""

from __future__ import annotations

import csv
import json
import pathlib
from collections import defaultdict
from collections.abc import Iterable

# What makes a cell of the table, in its order; a sample is a cell and a seed.
CELL = ("model", "dtype", "task", "question", "digits", "tokens", "method", "keep_ratio")


class Results:
    """The samples of a file. Each is a dictionary of CELL's keys, `seed`, and what was measured (`score`, `share`, …)."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.samples: list[dict] = []
        text = path.read_text() if path.is_file() else ""
        for line in text.splitlines():
            try:
                self.samples.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        # The last line of a run that was killed may be half a line: what comes next begins a new one.
        self._start = "" if text.endswith("\n") or not text else "\n"
        self._done = {self._key(sample) for sample in self.samples}

    @staticmethod
    def _key(sample: dict) -> tuple:
        return tuple(sample.get(key) for key in (*CELL, "seed"))

    def has(self, sample: dict) -> bool:
        return self._key(sample) in self._done

    def add(self, sample: dict) -> None:
        self.samples.append(sample)
        self._done.add(self._key(sample))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(self._start + json.dumps(sample) + "\n")
        self._start = ""

    def cells(self) -> list[dict]:
        """One row a cell: the means over its samples, and how many there were."""
        grouped = defaultdict(list)
        for sample in self.samples:
            grouped[tuple(sample.get(key) for key in CELL)].append(sample)
        rows = []
        for cell, samples in grouped.items():
            row = dict(zip(CELL, cell, strict=True)) | {"n": len(samples)}
            measured = [
                key for key, value in samples[0].items() if isinstance(value, (int, float)) and key not in (*CELL, "seed")
            ]
            row |= {key: sum(sample[key] for sample in samples) / len(samples) for key in measured}
            rows.append(row)
        return rows


def markdown(rows: Iterable[dict]) -> str:
    """A table of cells for people."""
    rows = list(rows)
    head = [
        key
        for key in (*CELL, "share", "score", "found", "n")
        if key not in ("model", "dtype") and len({str(row.get(key)) for row in rows} - {"None"}) > 0
    ]

    def shown(key: str, value) -> str:
        if value is None:
            return ""
        return f"{value:.2f}" if key == "share" else f"{value:.4g}" if isinstance(value, float) else str(value)

    lines = ["| " + " | ".join(key.replace("_", " ") for key in head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(shown(key, row.get(key)) for key in head) + " |" for row in rows]
    return "\n".join(lines)


def write_csv(rows: list[dict], path: pathlib.Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)


def plot(rows: list[dict], path: pathlib.Path) -> None:
    """Score against the share of the full cache that is held: one panel a task, one curve a method over its keep ratios, and
    one for each keep ratio over the number of recalled chunks. Other rules of recall are for the table alone, and so are cells
    of less than half as many samples as the panel's largest, which say little."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels, most = defaultdict(lambda: defaultdict(list)), defaultdict(int)
    for row in rows:
        most[_title(row)] = max(most[_title(row)], row["n"])
    for row in rows:
        name, _, recall = row["method"].partition("+")
        if "/" in recall or row["n"] < most[_title(row)] / 2:
            continue
        curve = f"{name}+M, r={row['keep_ratio']:g}" if recall.isdecimal() else row["method"]
        panels[_title(row)][curve].append((row["share"], row["score"]))
    names = sorted({curve for curves in panels.values() for curve in curves})
    looks = {
        curve: {"label": curve, "color": pyplot.get_cmap("turbo")(index / len(names)), "marker": "os^vD"[index % 5]}
        for index, curve in enumerate(names)
    }
    columns = min(3, len(panels))
    figure, axes = pyplot.subplots(
        -(-len(panels) // columns), columns, figsize=(5 * columns, 4 * -(-len(panels) // columns)), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    for axis, (title, curves) in zip(axes.flat, sorted(panels.items()), strict=False):
        for curve, points in sorted(curves.items()):
            axis.plot(*zip(*sorted(points), strict=True), **looks[curve])
        axis.set(title=title, xlabel="share of the full cache in memory", xlim=(0, 1.05))
        if title.startswith("nll"):
            axis.set_ylabel("nats a token")
        else:
            axis.set(ylabel="score", ylim=(-0.05, 1.05))
    lines = {line.get_label(): line for axis in axes.flat[: len(panels)] for line in axis.get_lines()}
    figure.legend(handles=[lines[name] for name in names], loc="outside lower center", ncols=2 * columns, fontsize="small")
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def _title(row: dict) -> str:
    digits, question = row.get("digits"), row.get("question")
    parts = (row["task"], digits and f"{digits} digits", question and f"question {question}", f"{row['tokens']:,} tokens")
    return ", ".join(part for part in parts if part)


def plot_kept(positions: list, tokens: int, path: pathlib.Path) -> None:
    """A map of which positions each layer kept: positions is a list by layer of [heads, rows]; darker is more heads."""
    import matplotlib
    import numpy as np

    matplotlib.use("Agg")
    from matplotlib import pyplot

    held = np.zeros((len(positions), tokens))
    for layer, of_layer in enumerate(positions):
        for head in np.asarray(of_layer):
            held[layer, head] += 1 / len(of_layer)
    figure, axis = pyplot.subplots(figsize=(12, 4))
    axis.imshow(held, aspect="auto", interpolation="nearest", cmap="Greys")
    axis.set(xlabel="position", ylabel="layer", title="share of KV heads that hold a position")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
