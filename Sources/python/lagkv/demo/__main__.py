"""Streams a real model's KV through a private daemon, kills the engine and the daemon, and brings everything back.

    python -m lagkv.demo --daemon PATH

Exit status: 0 if every token came back bit for bit, 1 if not.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
import safetensors.torch
import torch

import lagkv
from lagkv import models

SESSION = "demo"


class Show:
    """What the demonstration prints: chapters, facts in columns, and one line that moves."""

    def __init__(self) -> None:
        self.moving = sys.stdout.isatty()

    def chapter(self, title: str) -> None:
        print(f"\n\033[1m{title}\033[0m" if self.moving else f"\n{title}", flush=True)

    def fact(self, what: str, value: str, remark: str = "") -> None:
        print(f"  {what:<38}{value:>14}   {remark}".rstrip(), flush=True)

    def progress(self, text: str, last: bool = False) -> None:
        if self.moving:
            print(f"\r\033[K  {text}", end="\n" if last else "", flush=True)
        elif last:
            print(f"  {text}", flush=True)


class PrivateDaemon:
    """A daemon without root, on a directory and a socket of its own."""

    def __init__(self, program: str, state: pathlib.Path, run: pathlib.Path) -> None:
        # A socket's path has at most 107 bytes, wherever the checkout lies.
        self.socket = run / "lagkvd.sock"
        self.log = run / "lagkvd.log"
        self._command = [program, "--socket", str(self.socket), "--state-directory", str(state)]

    def start(self) -> lagkv.Client:
        """Starts it and returns a connection as soon as it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                return lagkv.connect(self.socket)
            except lagkv.ConnectionLost:
                time.sleep(0.002)
        raise SystemExit(f"lagkvd did not start:\n{self.log.read_text()}")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


def engine(job: str, daemon: PrivateDaemon, options: argparse.Namespace, *more: str) -> subprocess.Popen:
    command = [
        sys.executable,
        "-m",
        "lagkv.demo.engine",
        job,
        "--socket",
        str(daemon.socket),
        "--session",
        SESSION,
        "--model",
        options.model,
    ]
    return subprocess.Popen([*command, *more], stdout=subprocess.PIPE, text=True)


def told(process: subprocess.Popen):
    """What an engine says, until it ends."""
    for line in process.stdout:
        yield json.loads(line)
    if process.wait() > 0:
        raise SystemExit(f"the engine ended with status {process.returncode}")


def drop_caches() -> bool:
    """Forgets what the kernel has read of files; only root may. False where it could not."""
    try:
        os.sync()
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("3\n")
        return True
    except OSError:
        return False


def timed(action):
    began = time.perf_counter()
    result = action()
    return result, time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lagkv.demo", description=__doc__.split("\n\n")[0])
    parser.add_argument("--daemon", required=True, help="the lagkvd to run")
    parser.add_argument(
        "--model", default="smollm2", help="one of `python -m lagkv.models`, a directory, or a hub name (default: smollm2)"
    )
    parser.add_argument("--tokens", type=int, default=2048, help="length of the prompt (default: 2048)")
    parser.add_argument(
        "--keep-ratio", type=float, default=0.125, help="of each sealed chunk, the share that stays in memory (default: 0.125)"
    )
    options = parser.parse_args()

    models.model_directory(options.model)
    state = models.cache_directory() / "demo"
    shutil.rmtree(state, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="lagkv-demo-") as run:
        daemon = PrivateDaemon(options.daemon, state, pathlib.Path(run))
        try:
            return demonstrate(daemon, options, pathlib.Path(run) / "expected.safetensors")
        finally:
            if daemon.process.poll() is None:
                daemon.kill()
            shutil.rmtree(state, ignore_errors=True)


def demonstrate(daemon: PrivateDaemon, options: argparse.Namespace, expected: pathlib.Path) -> int:
    show = Show()
    show.chapter(f"1  A model computes {options.tokens:,} tokens; each piece of its KV goes into a session as it comes")
    client = daemon.start()
    first = engine(
        "compute",
        daemon,
        options,
        "--tokens",
        str(options.tokens),
        "--keep-ratio",
        str(options.keep_ratio),
        "--expected",
        str(expected),
    )
    for news in told(first):
        if news["kind"] == "tokens":
            text = f"{news['done']:,} of {news['of']:,} tokens computed, {news['rows']:,} of them in memory"
            show.progress(text, last=news["done"] == news["of"])
        else:
            break
    show.fact("computing", f"{news['computing']:.2f} s")
    show.fact(
        "appending, sealing, spilling",
        f"{news['appending'] * 1e3:.0f} ms",
        f"and {news['synced'] * 1e3:.0f} ms until all of it was on disk",
    )
    row = client.show(SESSION)
    with client.open(SESSION) as reader:
        rows, kept = hot_view(reader)
    raw = sum(tensor.nbytes for tensor in safetensors.torch.load_file(expected).values())
    show.fact("KV, every token", f"{raw:,} B")
    show.fact(
        "hot view, in memory", f"{kept:,} B", f"{kept / raw:.1%}: sink, window, and {options.keep_ratio:.1%} of each sealed chunk"
    )
    show.fact("on disk", f"{row.disk_bytes:,} B", f"{row.disk_bytes / raw:.1%}: every token, losslessly coded")

    show.chapter("2  kill -9 the engine, kill -9 the daemon")
    first.send_signal(signal.SIGKILL)
    first.wait()
    daemon.kill()
    client.close()
    cold = drop_caches()
    show.fact(
        "engine and daemon",
        "killed",
        "and what the kernel had cached of files is gone" if cold else "(only root can drop the kernel's file cache)",
    )

    show.chapter("3  Both start again")
    client, started = timed(daemon.start)
    session, resumed = timed(lambda: client.open(SESSION, write=True))
    rows, kept = hot_view(session)
    show.fact("daemon up", f"{started * 1e3:.1f} ms")
    show.fact(
        "session resumed",
        f"{resumed * 1e3:.1f} ms",
        f"{'cold' if cold else 'warm'}: {kept:,} B of hot view, {rows:,} of {session.tokens:,} tokens a layer",
    )
    show.fact(
        "computing it again would take", f"{news['computing'] * 1e3:,.0f} ms", f"{news['computing'] / resumed:,.0f} times as long"
    )

    show.chapter("4  Every token, against what the model computed")
    layers, rehydrated = timed(lambda: [session.full(layer) for layer in range(session.description.layers)])
    show.fact("full view of all layers", f"{rehydrated * 1e3:.0f} ms", f"{raw / rehydrated / 1e9:.2f} GB/s of KV")
    wrong = compare(layers, session, expected)
    show.fact(
        "tokens that came back", f"{session.tokens:,}", "" if session.tokens == options.tokens else f"of {options.tokens:,}"
    )
    show.fact(
        "bit for bit",
        "yes" if not wrong else "NO",
        wrong or "keys and values of every layer and head, and the hot view at its positions",
    )
    session.close()

    show.chapter("5  Another engine goes on from the hot view")
    for news in told(engine("resume", daemon, options)):
        print(f"  …{news['before']}\033[1m{news['text']}\033[0m" if show.moving else f"  …{news['before']} ▸ {news['text']}")
    client.delete(SESSION)
    client.close()
    daemon.stop()
    return 1 if wrong or len(layers[0][0][0]) != options.tokens else 0


def hot_view(session: lagkv.Session) -> tuple[int, int]:
    """The rows of one layer's hot view, and the bytes of all layers' together."""
    views = [session.view(layer) for layer in range(session.description.layers)]
    return len(views[0]), sum(view.keys.nbytes + view.values.nbytes for view in views)


def compare(layers, session: lagkv.Session, expected: pathlib.Path) -> str:
    """Says where the full view differs from what the model computed, or the hot view from the full one; empty where nowhere."""
    saved = safetensors.torch.load_file(expected)
    for index, full in enumerate(layers):
        view = session.view(index)
        for part, name, hot in zip(full, "kv", (view.keys, view.values), strict=True):
            computed = saved[f"layer{index}.{name}"].contiguous().view(torch.uint16).numpy()
            if part.shape != computed.shape or not np.array_equal(part, computed):
                return f"layer {index}: the full view's {name} differs from what was computed"
            if not np.array_equal(hot, np.take_along_axis(computed, view.positions[:, :, None].astype(np.int64), axis=1)):
                return f"layer {index}: the hot view's {name} is not the full view at its positions"
    return ""


if __name__ == "__main__":
    raise SystemExit(main())
