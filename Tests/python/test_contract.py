"""The surface of the client against the real daemon: every call of the contract, every element type."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import lagkv
import numpy as np
import pytest
import reference
from conftest import Daemon, opened

DTYPES = list(reference.STORAGE)


def make(client: lagkv.Client, name: str = "s", **options: object) -> tuple[lagkv.Session, reference.Oracle]:
    """A small session and its oracle."""
    chosen: dict = {
        "layers": 2, "kv_heads": 3, "key_dim": 8, "value_dim": 4, "dtype": "bfloat16", "capacity": 4096, "sink": 3, "lag": 16,
        "keep_ratio": 0.25,
    } | options  # fmt: skip
    s = client.create(name, **chosen)
    oracle = reference.Oracle(
        chosen["layers"], chosen["kv_heads"], chosen["key_dim"], chosen["value_dim"], chosen["dtype"], chosen["sink"],
        chosen["lag"], chosen["keep_ratio"], chosen.get("value_weight", 1.0), tuple(chosen.get("uncompressed_layers", ())),
    )  # fmt: skip
    return s, oracle


def tokens(oracle: reference.Oracle, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    shape = (oracle.layers, oracle.heads, count)
    return (
        reference.numbers(random, (*shape, oracle.keys.shape[-1]), oracle.dtype),
        reference.numbers(random, (*shape, oracle.values.shape[-1]), oracle.dtype),
    )


def append(s: lagkv.Session, oracle: reference.Oracle, count: int, seed: int = 0) -> None:
    k, v = tokens(oracle, count, seed)
    ids = np.random.default_rng(seed).integers(0, 1 << 32, count)
    s.append(k, v, ids)
    oracle.append(k, v, ids)


def check(s: lagkv.Session, oracle: reference.Oracle, full: bool = True) -> None:
    """Everything that a session shows, against its oracle."""
    assert s.tokens == oracle.tokens and s.sealed_chunks == oracle.sealed
    assert (s.ids == oracle.ids).all()
    for layer in range(oracle.layers):
        view = s.view(layer)
        oracle.check_view(layer, view.keys, view.values, view.positions)
        assert view.valid
        for got, expected in zip(s.summaries(layer), oracle.summaries(layer), strict=True):
            np.testing.assert_array_equal(reference.decoded(got, oracle.dtype), expected)
        if full:
            k, v = s.full(layer)
            assert (reference.bits(k, oracle.dtype) == reference.bits(oracle.keys[layer], oracle.dtype)).all()
            assert (reference.bits(v, oracle.dtype) == reference.bits(oracle.values[layer], oracle.dtype)).all()


@pytest.mark.parametrize("ratio", [0.05, 0.125, 0.25, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_and_ratio_comes_back_bit_for_bit_and_keeps_what_lagkv_keeps(
    client: lagkv.Client, dtype: str, ratio: float
) -> None:
    s, oracle = make(client, dtype=dtype, keep_ratio=ratio, lag=20)
    for number, count in enumerate((1, 2, 40, 0, 1, 19, 20, 21, 300)):
        append(s, oracle, count, seed=number)
        check(s, oracle, full=number % 3 == 2)
    s.close()
    with client.open("s") as reader:
        check(reader, oracle)


def test_random_bits_of_every_type_come_back(client: lagkv.Client) -> None:
    """NaN payloads, infinities, negative zeros, subnormals: whatever the bits are."""
    for dtype in DTYPES:
        s, oracle = make(client, dtype.replace("_", "-"), dtype=dtype)
        random = np.random.default_rng(1)
        pair = [
            random.integers(0, 256, (*a.shape[:2], 500, a.shape[3] * a.itemsize), "u1").view(a.dtype)
            for a in (oracle.keys, oracle.values)
        ]
        s.append(*pair)
        for layer in range(oracle.layers):
            for got, given in zip(s.full(layer), pair, strict=True):
                assert (reference.bits(got, dtype) == reference.bits(given[layer], dtype)).all()
            view = s.view(layer)
            for head in range(oracle.heads):
                for got, given in ((view.keys, pair[0]), (view.values, pair[1])):
                    expected = given[layer, head, view.positions[head]]
                    assert (reference.bits(got[head], dtype) == reference.bits(expected, dtype)).all()


def test_uncompressed_layers_and_the_value_weight(client: lagkv.Client) -> None:
    s, oracle = make(client, layers=5, uncompressed_layers=[0, 3], value_weight=0.5)
    append(s, oracle, 200)
    check(s, oracle)
    assert len(s.view(0)) == len(s.view(3)) == 200 and len(s.view(1)) == len(s.view(2)) < 100
    with pytest.raises(lagkv.BadRequest) as caught:
        s.recall(3, [[0], [1], [2]])
    assert caught.value.name == "nothingEvicted"


def test_a_decode_in_windows_equals_an_append(client: lagkv.Client) -> None:
    s, oracle = make(client)
    k, v = tokens(oracle, 150)
    oracle.append(k, v, np.arange(150))
    for t in range(150):
        for layer in range(oracle.layers):
            keys, values = s.window(layer, 1)
            keys[:], values[:] = k[layer, :, t : t + 1], v[layer, :, t : t + 1]
        s.window_ids(1)[:] = t
        s.commit(t + 1)
        assert s.tokens == t + 1
        view = s.view(1)
        assert (view.positions[:, -1] == t).all() and (view.keys[:, -1] == k[1, :, t]).all()
    check(s, oracle)


def test_one_tensor_a_layer_sliced_by_extent_is_the_view(client: lagkv.Client) -> None:
    s, oracle = make(client)
    slabs = [s.slab(layer) for layer in range(oracle.layers)]
    for number in range(20):
        append(s, oracle, 13, seed=number)
        for layer, (keys, values) in enumerate(slabs):
            rows, view = s.extent(layer), s.view(layer)
            assert (keys[:, rows] == view.keys).all() and (values[:, rows] == view.values).all()
            assert np.shares_memory(keys, view.keys)


def test_recalled_chunks_join_the_view_until_release(client: lagkv.Client) -> None:
    s, oracle = make(client)
    append(s, oracle, 200)
    random = np.random.default_rng(5)
    for layer, count in ((0, 2), (1, 1), (0, 3)):
        chunks = oracle.choose(random, layer, count)
        assert chunks is not None
        s.recall(layer, chunks)
        oracle.recall(layer, chunks)
        check(s, oracle)
    append(s, oracle, 40)  # recalled rows stay through seals
    check(s, oracle)
    s.release()
    oracle.recalled = {}
    check(s, oracle)
    both = {0: [[0], [1], [2]], 1: [[3, 4], [3, 5], [0, 1]]}
    s.recall_layers(both)
    for layer, chunks in both.items():
        oracle.recall(layer, np.array(chunks))
    check(s, oracle)
    for layer, chunks, name in ((0, [[0], [2], [3]], "alreadyRecalled"), (0, [[1], [2], [99]], "notSealed")):
        with pytest.raises(lagkv.BadRequest) as caught:
            s.recall(layer, chunks)
        assert caught.value.name == name
    with pytest.raises(ValueError, match="expected integers"):
        s.recall(0, [[1], [2]])
    with pytest.raises(lagkv.LagKVError):
        s.recall(0, [[-1], [2], [3]])
    check(s, oracle)
    s.recall(0, np.empty((3, 0), int))  # nothing asked, nothing done
    check(s, oracle)


def test_truncating_and_appending_again_is_as_if_it_never_happened(client: lagkv.Client) -> None:
    s, oracle = make(client)
    k, v = tokens(oracle, 300)
    s.append(k, v)
    oracle.append(k, v, None)
    for length in (299, 211, 210, 100, 36, 35, 34, 19, 3, 2, 0):
        s.truncate(length)
        oracle.truncate(length)
        check(s, oracle)
        end = min(300, length + 50)
        s.append(k[:, :, length:end], v[:, :, length:end])
        oracle.append(k[:, :, length:end], v[:, :, length:end], None)
        check(s, oracle)
        s.truncate(length)
        oracle.truncate(length)
    with pytest.raises(lagkv.BadRequest) as caught:
        s.truncate(1)
    assert caught.value.name == "badTokenCount"


def test_a_fork_goes_its_own_way(client: lagkv.Client) -> None:
    s, oracle = make(client)
    append(s, oracle, 150)
    whole, early = s.fork("whole"), s.fork("early", 77)
    assert (whole.name, whole.tokens, whole.state, early.tokens) == ("whole", 150, "suspended", 77)
    forks = {name: client.open(name, write=True) for name in ("whole", "early")}
    oracles = {"whole": oracle.fork(150), "early": oracle.fork(77)}
    for seed, (name, fork) in enumerate(forks.items()):
        check(fork, oracles[name])
        append(fork, oracles[name], 60, seed=seed + 7)
        check(fork, oracles[name])
    append(s, oracle, 30, seed=9)
    s.suspend()
    client.delete("s")
    for name, fork in forks.items():
        check(fork, oracles[name])
        fork.suspend()
        with client.open(name) as again:
            check(again, oracles[name])
    with pytest.raises(lagkv.AlreadyExists):
        client.fork("whole", "early")
    with pytest.raises(lagkv.BadRequest):
        client.fork("whole", "later", 211)


def test_suspend_and_open_bring_everything_back(client: lagkv.Client) -> None:
    s, oracle = make(client)
    for round in range(4):
        append(s, oracle, 47, seed=round)
        reader = client.open("s")
        row = s.suspend()
        assert (row.state, row.tokens, row.durable_tokens, row.resident_bytes) == ("suspended", oracle.tokens, oracle.tokens, 0)
        assert s.closed
        s.close()
        with pytest.raises(lagkv.SessionGone):
            s.view(0)
        with pytest.raises(lagkv.SessionGone, match="suspended"):
            reader.view(0)
        with pytest.raises(lagkv.SessionGone):
            reader.full(0)
        reader.close()
        if round % 2:
            assert client.resume("s").state == "resident"
        s = client.open("s", write=True)
        check(s, oracle)
    assert client.suspend("s").state == client.suspend("s").state == "suspended"


def test_rows_tell_what_a_session_is(client: lagkv.Client) -> None:
    s, oracle = make(
        client, layers=4, fingerprint="model/7 rope=1e4", shared=True, disposable=True, uncompressed_layers=(1,), dtype="float16"
    )
    append(s, oracle, 100)
    s.sync()
    row = s.show()
    d = row.description
    assert (d.layers, d.kv_heads, d.key_dim, d.value_dim, d.dtype, d.capacity) == (4, 3, 8, 4, "float16", 4096)
    assert (d.sink, d.lag, d.keep_ratio, d.value_weight, d.uncompressed_layers) == (3, 16, 0.25, 1.0, (1,))
    assert (d.fingerprint, d.shared, d.disposable, d) == ("model/7 rope=1e4", True, True, s.description)
    assert (row.name, row.owner, row.state, row.tokens, row.sealed_chunks) == ("s", os.getuid(), "resident", 100, oracle.sealed)
    assert row.durable_tokens >= 3 + 16 * oracle.sealed and row.disk_bytes > 0 and row.resident_bytes > 0
    assert (row.writer, row.readers, row.fault) == (os.getpid(), 0, "")
    assert row.created <= row.last_used
    readers = [client.open("s") for _ in range(3)]
    assert client.show("s").readers >= 1  # connections, or handles: at least this one
    assert "s: resident, 100 of 4,096 tokens" in repr(row)
    assert "Session 's': writer, 100 of 4,096 tokens" in repr(s) and "reader" in repr(readers[0])
    assert "3 heads × " in repr(s.view(0))
    with pytest.raises(lagkv.Mismatch) as caught:
        client.open("s", fingerprint="another model")
    assert "model/7 rope=1e4" in str(caught.value) and "another model" in str(caught.value)
    client.open("s", fingerprint="model/7 rope=1e4").close()


def test_listing_goes_through_all_pages(client: lagkv.Client) -> None:
    names = [f"n{number:04}" for number in range(1030)]
    for name in names:
        client.create(name, layers=1, kv_heads=1, key_dim=2, capacity=64).close()
    assert [row.name for row in client.sessions()] == names
    assert [row.name for row in client.sessions(everybody=True)] == names


def test_status_and_metrics_are_what_they_say(client: lagkv.Client) -> None:
    s, oracle = make(client)
    append(s, oracle, 100)
    status = client.status()
    assert status and all(isinstance(value, str) for value in status.values())
    text = client.metrics()
    assert text.endswith("# EOF\n")
    assert any(line and not line.startswith("#") for line in text.splitlines())


def test_renaming_keeps_handles(client: lagkv.Client) -> None:
    s, oracle = make(client)
    append(s, oracle, 50)
    client.rename("s", "t")
    append(s, oracle, 50, seed=1)
    check(s, oracle)
    with pytest.raises(lagkv.NotFound):
        client.show("s")
    client.create("s", layers=1, kv_heads=1, key_dim=2).close()
    with pytest.raises(lagkv.AlreadyExists):
        client.rename("s", "t")


def test_there_is_one_writer_and_its_lease_ends_with_its_connection(client: lagkv.Client, daemon: Daemon) -> None:
    s, oracle = make(client)
    append(s, oracle, 60)
    with daemon.connect() as other:
        with pytest.raises(lagkv.Busy) as caught:
            other.open("s", write=True)
        assert caught.value.name == "writerBusy" and str(os.getpid()) in caught.value.seen
        for refused in (other.suspend, other.delete):
            with pytest.raises(lagkv.Busy):
                refused("s")
        reader = other.open("s")
        check(reader, oracle)
        append(s, oracle, 7, seed=1)  # published, no message
        check(reader, oracle)
        client.close()
        with pytest.raises(lagkv.ConnectionLost):
            s.sync()
        writer = opened(other, "s")
        check(writer, oracle)
        append(writer, oracle, 60, seed=2)
        check(writer, oracle)
        check(reader, oracle)


def test_sync_and_durable_commits_put_tokens_on_disk(client: lagkv.Client) -> None:
    s, oracle = make(client)
    append(s, oracle, 100)
    assert s.sync() >= 3 + 16 * oracle.sealed
    assert s.sync(window=True) == s.durable_tokens == 100
    k, v = tokens(oracle, 1)
    s.append(k, v)
    s.commit(101, durable=True)
    assert s.durable_tokens >= 3 + 16 * s.sealed_chunks


def test_a_large_append_is_cut_into_grants(client: lagkv.Client) -> None:
    """82 MB, more than is granted at a time."""
    s, oracle = make(client, layers=4, kv_heads=4, key_dim=64, value_dim=64, lag=128, capacity=20_000)
    k, v = tokens(oracle, 20_000)
    assert s.grant < 20_000
    s.append(k, v)
    oracle.append(k, v, None)
    check(s, oracle)


def test_capacity_is_the_end(client: lagkv.Client) -> None:
    s, oracle = make(client, capacity=70)
    append(s, oracle, 69)
    with pytest.raises(lagkv.LimitExceeded) as caught:
        append(s, oracle, 2)
    assert caught.value.name == "beyondCapacity"
    append(s, oracle, 1)
    check(s, oracle)
    append(s, oracle, 0)
    with pytest.raises(lagkv.LimitExceeded):
        s.window(0, 1)
    with pytest.raises(lagkv.LimitExceeded):
        s.commit(71)
    s.truncate(40)
    oracle.truncate(40)
    append(s, oracle, 30)
    check(s, oracle)


def test_freed_pages_go_back_to_the_system(client: lagkv.Client) -> None:
    """The memfd's blocks beside its bytes, after 2,048 tokens of SmolLM2's shape at r = 1/8."""
    s, oracle = make(client, layers=30, kv_heads=3, key_dim=64, value_dim=64, capacity=8192, sink=16, lag=128, keep_ratio=0.125)
    k, v = (a.repeat(16, axis=2) for a in tokens(oracle, 128))
    s.append(k, v)
    blocks = _slab_blocks()
    held = 480 * s.description.token_bytes
    assert len(s.view(0)) == 480
    assert held <= blocks * 512
    # Beside the rows there are the token ids and the page of the published count; each head's rows end inside a page.
    print(f"{blocks * 512} bytes in blocks for {held} bytes of rows: {blocks * 512 / held:.3f}")
    assert blocks * 512 <= 1.08 * held


def _slab_blocks() -> int:
    """Blocks of 512 bytes of the one slab in use that this process maps."""
    found = {}
    for line in Path("/proc/self/maps").read_text().splitlines():
        if "memfd:lagkv-slab" in line:
            stat = os.stat(f"/proc/self/map_files/{line.split()[0]}")
            found[stat.st_ino] = stat.st_blocks
    # Tracebacks of earlier tests may still hold slabs of sessions that are gone; those have no blocks.
    in_use = [blocks for blocks in found.values() if blocks]
    assert len(in_use) == 1, found
    return in_use[0]


def test_it_all_survives_a_restart_and_what_is_durable_survives_a_kill(make_daemon: type) -> None:
    daemon = make_daemon()
    with daemon.connect() as client:
        s, oracle = make(client)
        append(s, oracle, 200)
    daemon.stop()
    daemon.start()
    with daemon.connect() as client:
        s = client.open("s", write=True)
        check(s, oracle)
        append(s, oracle, 100, seed=1)
        durable = s.sync()
        daemon.stop(signal.SIGKILL)
        with pytest.raises(lagkv.ConnectionLost):
            s.sync()
    daemon.start()
    with daemon.connect() as client, client.open("s", write=True) as s:
        assert durable <= s.tokens <= oracle.tokens
        oracle.truncate(s.tokens)
        check(s, oracle)
