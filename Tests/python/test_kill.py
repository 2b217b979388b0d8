"""kill -9 under load: what was acknowledged as durable is there, bit for bit, and every session opens and goes on.

Writers append, truncate, fork, suspend and sync sessions of their own; at a random moment the daemon is killed. After each
start every session is held against a model of what its writer was told. ``LAGKV_KILLS`` and ``LAGKV_SEED`` change the number
of rounds and the seed.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import Daemon
from manager import Manager

import lagkv

LAYERS, HEADS, DIM = 3, 2, 32
SHAPE = dict(layers=LAYERS, kv_heads=HEADS, key_dim=DIM, value_dim=DIM, dtype="bfloat16", capacity=6_000, fingerprint="kill")
WRITERS = 3

POOL = np.random.default_rng(0).integers(0, 1 << 16, size=(4_096, LAYERS, HEADS, 2 * DIM), dtype=np.uint16)


class Writer:
    """One session, what it was told of it, and what it may hold after a kill."""

    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self.random = random.Random(seed)
        #: Which row of the pool each token is: what the session holds, and what was on its way when the daemon died.
        self.tokens = np.zeros(0, np.int64)
        #: Tokens that were acknowledged to be on disk.
        self.durable = 0
        self.created = False
        self.forks: dict[str, np.ndarray] = {}
        self.acknowledged = 0

    def values(self, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = POOL[tokens].transpose(1, 2, 0, 3)
        return np.ascontiguousarray(rows[..., :DIM]), np.ascontiguousarray(rows[..., DIM:])

    def work(self, socket: str) -> None:
        """Works until the daemon is gone."""
        try:
            with lagkv.connect(socket, timeout=60) as client:
                session = self._open(client)
                while True:
                    session = self._step(client, session)
                    self.acknowledged += 1
        except lagkv.ConnectionLost:
            pass

    def _open(self, client: lagkv.Client) -> lagkv.Session:
        if self.created:
            return client.open(self.name, write=True)
        session = client.create(
            self.name, sink=self.random.choice([0, 5, 16]), lag=self.random.choice([16, 64]),
            keep_ratio=self.random.choice([0.125, 0.5, 1.0]), **SHAPE)
        self.created = True
        return session

    def _step(self, client: lagkv.Client, session: lagkv.Session) -> lagkv.Session:
        step = self.random.random()
        if len(self.tokens) > 5_000 or step < 0.08:
            length = self.random.randrange(len(self.tokens) // 2, len(self.tokens) + 1) if step < 0.08 else 0
            # Until the reply comes either length may be what is found.
            self.durable = min(self.durable, length)
            session.truncate(length)
            self.tokens = self.tokens[:length]
        elif step < 0.12:
            session.suspend()
            self.durable = len(self.tokens)
            return client.open(self.name, write=True)
        elif step < 0.18:
            session.sync(window=True)
            self.durable = len(self.tokens)
        elif step < 0.21:
            name = f"{self.name}-fork-{self.acknowledged}"
            length = self.random.randrange(len(self.tokens) + 1)
            session.fork(name, tokens=length)
            self.forks[name] = self.tokens[:length].copy()
        else:
            more = np.array([self.random.randrange(len(POOL)) for _ in range(self.random.choice([1, 7, 60, 300]))])
            self.tokens = np.concatenate([self.tokens, more])
            session.append(*self.values(more))
        self.durable = max(self.durable, session.durable_tokens)
        return session

    def check(self, client: lagkv.Client) -> None:
        """Everything that was acknowledged is there; what is there is what was appended."""
        if not self.created:
            self.created = any(row.name == self.name for row in client.sessions())
        if self.created:
            with client.open(self.name, write=True) as session:
                found = session.tokens
                assert self.durable <= found <= len(self.tokens), f"{self.name}: {found} tokens, {self.durable} were durable"
                self.tokens = self.tokens[:found]
                self._check_tokens(session, self.tokens)
                self.durable = session.durable_tokens
        for name, tokens in self.forks.items():
            with client.open(name) as fork:
                self._check_tokens(fork, tokens)
            client.delete(name)
        self.forks.clear()
        for row in client.sessions():
            if row.name.startswith(f"{self.name}-fork-"):
                client.delete(row.name)

    def _check_tokens(self, session: lagkv.Session, tokens: np.ndarray) -> None:
        assert session.tokens == len(tokens)
        keys, values = self.values(tokens)
        for layer in range(LAYERS):
            full_keys, full_values = session.full(layer)
            assert np.array_equal(full_keys, keys[layer]) and np.array_equal(full_values, values[layer]), session
            view = session.view(layer)
            for head in range(HEADS):
                assert np.array_equal(view.keys[head], keys[layer, head][view.positions[head]])
                assert np.array_equal(view.values[head], values[layer, head][view.positions[head]])


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path / "manager")
    yield manager
    manager.close()


def test_a_hundred_kills_under_load_lose_nothing_that_was_acknowledged(make_daemon: type) -> None:
    kill_under_load(make_daemon("--log-level", "warning"), int(os.environ.get("LAGKV_KILLS", "100")))


def test_kills_under_a_service_manager_lose_no_window_and_no_memory(manager: Manager, make_daemon: type) -> None:
    daemon = make_daemon("--log-level", "notice", manager=manager)
    kill_under_load(daemon, int(os.environ.get("LAGKV_KILLS", "100")) // 4)
    assert "tokens that were only in memory are on disk now" in daemon.log()
    with daemon.connect() as client, client.create("quiet", sink=4, lag=16, keep_ratio=0.25, **SHAPE) as session:
        session.append(*Writer("quiet", 0).values(np.arange(100)))
        session.sync()
        session.append(*Writer("quiet", 0).values(np.arange(100, 107)))
        assert session.durable_tokens < 107
        daemon.stop(signal.SIGKILL)
    daemon.start()
    with daemon.connect() as client:
        assert client.show("quiet").durable_tokens == 107
    daemon.stop()
    manager.settle()
    assert manager.held == {}
    daemon.start()


def kill_under_load(daemon: Daemon, rounds: int) -> None:
    seed = int(os.environ.get("LAGKV_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
    print(f"{rounds} kills; again with LAGKV_SEED={seed}")
    moments = random.Random(seed)
    writers = [Writer(f"session-{index}", seed + index) for index in range(WRITERS)]
    for _ in range(rounds):
        threads = [threading.Thread(target=writer.work, args=(str(daemon.socket),)) for writer in writers]
        for thread in threads:
            thread.start()
        time.sleep(moments.uniform(0.01, 0.25))
        daemon.stop(signal.SIGKILL)
        for thread in threads:
            thread.join(timeout=60)
            assert not thread.is_alive(), "a writer hangs on a daemon that is gone"
        daemon.start()
        with daemon.connect() as client:
            for writer in writers:
                writer.check(client)
            names = {row.name for row in client.sessions()}
            assert names <= {writer.name for writer in writers}, names
    steps = sum(writer.acknowledged for writer in writers)
    print(f"{rounds} kills, {steps} acknowledged steps")
    assert steps > rounds, "the writers hardly worked"
