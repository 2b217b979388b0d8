"""Several processes on one session: a writer, readers, and what is left when one of them is killed."""

from __future__ import annotations

import gc
import multiprocessing
import os
import random
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

import lagkv
import numpy as np
import pytest
from conftest import Daemon, opened

LAYERS, HEADS, DIM, SINK, LAG, RATIO = 3, 2, 16, 4, 32, 0.25
KEPT = int(RATIO * LAG)
TOKENS = 4000

processes = multiprocessing.get_context("spawn")


def pattern(layer: int | np.ndarray, positions: np.ndarray) -> np.ndarray:
    """The key of a position in one layer, uint16 [heads, n, DIM], all finite as bfloat16: whoever reads can tell it is right."""
    head, channel = np.arange(HEADS)[:, None, None], np.arange(DIM)
    mixed = positions[..., None].astype(np.uint32) * 40503 + channel * 2654435761 % 65521 + head * 977 + layer * 7919
    return ((mixed ^ mixed >> 7) & 0x3FFF).astype(np.uint16)


def whole(first: int, end: int) -> np.ndarray:
    """[LAYERS, HEADS, end - first, DIM]"""
    positions = np.broadcast_to(np.arange(first, end), (HEADS, end - first))
    return np.stack([pattern(layer, positions) for layer in range(LAYERS)])


def create(client: lagkv.Client, name: str = "s") -> lagkv.Session:
    return client.create(name, layers=LAYERS, kv_heads=HEADS, key_dim=DIM, capacity=TOKENS, sink=SINK, lag=LAG, keep_ratio=RATIO)


def verify(view: lagkv.View, layer: int) -> None:
    """Assert that a copy is the whole view of one moment."""
    sealed = max(0, (view.tokens - SINK) // LAG - 1)
    window = SINK + sealed * LAG
    assert len(view) == view.tokens - sealed * (LAG - KEPT)
    assert (view.positions[:, SINK + sealed * KEPT :] == np.arange(window, view.tokens)).all()
    assert (np.diff(view.positions, axis=1) > 0).all()
    expected = pattern(layer, view.positions)
    assert (view.keys == expected).all() and (view.values == expected ^ 1).all()


def read_on(socket: Path, seed: int, told: Connection) -> None:
    """A reader: takes views and verifies them until it is told to stop, and tells how many it saw."""
    chance = random.Random(seed)
    views, lengths = 0, set()
    with lagkv.connect(socket, timeout=60) as client, client.open("s") as s:
        told.send("ready")
        while not told.poll():
            layer = chance.randrange(LAYERS)
            view = s.read(layer)
            verify(view, layer)
            lengths.add(view.tokens)
            views += 1
    told.send((views, len(lengths)))


def start_reader(daemon: Daemon, seed: int) -> tuple[multiprocessing.process.BaseProcess, Connection]:
    ours, theirs = processes.Pipe()
    process = processes.Process(target=read_on, args=(daemon.socket, seed, theirs), daemon=True)
    process.start()
    theirs.close()
    assert ours.poll(60) and ours.recv() == "ready"
    return process, ours


def test_two_readers_and_a_writer_and_one_reader_is_killed_at_random(daemon: Daemon, client: lagkv.Client) -> None:
    seed = int(os.environ.get("LAGKV_SEED", random.randrange(1 << 30)))
    print(f"seed {seed}")
    chance = random.Random(seed)
    s = create(client)
    steady, steady_pipe = start_reader(daemon, seed)
    victim, _ = start_reader(daemon, seed + 1)
    killed, kill_at = 0, time.monotonic() + chance.random() * 0.3
    rounds = 0
    while killed < 5 or rounds < 3:
        if s.tokens == TOKENS:
            # All the way back, and once more: readers must never see one length with the rows of another.
            s.truncate(chance.randrange(TOKENS))
            rounds += 1
        count = min(TOKENS - s.tokens, chance.choice([1, 1, 1, 2, 7, LAG, 300]))
        keys = whole(s.tokens, s.tokens + count)
        if chance.random() < 0.5:
            s.append(keys, keys ^ 1)
        else:
            for t in range(count):
                for layer in range(LAYERS):
                    k, v = s.window(layer, 1)
                    k[:, 0], v[:, 0] = keys[layer, :, t], keys[layer, :, t] ^ 1
                s.commit(s.tokens + 1)
        if time.monotonic() > kill_at:
            os.kill(victim.pid, signal.SIGKILL)  # type: ignore[arg-type]
            victim.join()
            killed += 1
            # Where starting a process is slow, as much time goes to writing: else only processes are started.
            started = time.monotonic()
            victim, _ = start_reader(daemon, seed + 1 + killed)
            kill_at = time.monotonic() + chance.random() * max(0.3, time.monotonic() - started)
    for layer in range(LAYERS):
        verify(s.read(layer), layer)
    steady_pipe.send("stop")
    assert steady_pipe.poll(60), f"the reader died with {steady.exitcode}"
    views, lengths = steady_pipe.recv()
    steady.join()
    victim.kill()
    victim.join()
    print(f"{views} views of {lengths} lengths, {killed} readers killed")
    assert views > 10 and lengths > 3
    for _ in range(1000):
        if client.show("s").readers == 0:
            break
        time.sleep(0.005)
    assert client.show("s").readers == 0


def write_and_hang(socket: Path, committed: int, published: int, written: int, told: Connection) -> None:
    """A writer that is in the middle of its window when it is killed."""
    client = lagkv.connect(socket)
    s = client.open("s", write=True)
    s.append(*(lambda k: (k, k ^ 1))(whole(s.tokens, committed)))
    s.commit(committed, durable=True)
    for length, publish in ((published, True), (written, False)):
        count = length - s.tokens
        keys = whole(s.tokens, length)
        for layer in range(LAYERS):
            k, v = s.window(layer, count)
            k[:], v[:] = keys[layer], keys[layer] ^ 1
        if publish:
            s.commit(length)
    told.send(s.tokens)
    signal.pause()


@pytest.mark.parametrize(("committed", "published", "written"), [(50, 60, 67), (400, 400, 420), (0, 20, 30), (99, 99, 99)])
def test_a_writer_killed_in_its_window_leaves_the_session_as_of_its_last_commit(
    daemon: Daemon, client: lagkv.Client, committed: int, published: int, written: int
) -> None:
    create(client).close()
    ours, theirs = processes.Pipe()
    writer = processes.Process(target=write_and_hang, args=(daemon.socket, committed, published, written, theirs), daemon=True)
    writer.start()
    assert ours.poll(60) and ours.recv() == published
    reader = client.open("s")
    assert reader.tokens == published
    os.kill(writer.pid, signal.SIGKILL)  # type: ignore[arg-type]
    writer.join()
    s = opened(client, "s")
    assert s.tokens == reader.tokens == published
    keys = whole(published, TOKENS)
    s.append(keys, keys ^ 1)
    for layer in range(LAYERS):
        verify(reader.read(layer), layer)
        k, v = s.full(layer)
        assert (k == whole(0, TOKENS)[layer]).all() and (v == k ^ 1).all()


def test_a_session_written_by_one_process_is_read_by_the_next_after_both_it_and_the_daemon_ended(make_daemon: type) -> None:
    daemon = make_daemon()
    with daemon.connect() as client:
        create(client).close()
    for end in (700, 1500):
        ours, theirs = processes.Pipe()
        writer = processes.Process(target=write_and_hang, args=(daemon.socket, end, end, end, theirs), daemon=True)
        writer.start()
        assert ours.poll(60) and ours.recv() == end
        writer.kill()
        writer.join()
        daemon.stop()
        daemon.start()
        with daemon.connect() as client, client.open("s") as reader:
            assert reader.tokens == end
            for layer in range(LAYERS):
                verify(reader.read(layer), layer)
                assert (reader.full(layer)[0] == whole(0, end)[layer]).all()


@pytest.mark.parametrize("tokens", [0, 40, 99, 1000])
def test_a_session_in_the_memory_of_one_that_is_gone_sees_nothing_of_it(client: lagkv.Client, tokens: int) -> None:
    keys = whole(0, tokens)
    with create(client, "next") as s:
        s.append(keys, keys ^ 1)
    client.suspend("next")
    secret = np.full((LAYERS, HEADS, 2500, DIM), 0x3EAD, np.uint16)
    with create(client, "gone") as s:
        s.append(secret, secret, ids=[0xDEAD] * 2500)
        s.recall(1, [[3, 5]] * HEADS)
        del s
    gc.collect()
    client.suspend("gone")
    with client.open("next", write=True) as s:
        assert "lagkvd_slabs_reused_total 0" not in client.metrics(), "not in the memory of the one that is gone"
        assert not s.window_ids(TOKENS - tokens).any() and 0xDEAD not in s.ids
        for layer in range(LAYERS):
            others = np.ones(s.slab(layer)[0].shape[1], bool)
            others[s.extent(layer)] = False
            assert not any(rows[:, others].any() for rows in s.slab(layer))
            verify(s.read(layer), layer)
