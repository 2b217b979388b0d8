"""What the client does on the shared memory, byte by byte, on two files laid out by hand: 2 layers, 2 heads, keys of 4 and
values of 2 bfloat16, S = 1, L = 2, room for 4 recalled rows. Nothing of the arithmetic here is the client's."""

from __future__ import annotations

import gc
import mmap
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import lagkv
import numpy as np
import pytest
from fake import FakeDaemon, Peer, string

PAGE = 4096
LAYERS, HEADS, KEY, VALUE, CAPACITY = 2, 2, 8, 4, 16  # KEY and VALUE: bytes of a row
IDS, LAYERS_AT, LAYER = PAGE, 2 * PAGE, 16 * PAGE
KEY_HEAD, VALUES_AT, VALUE_HEAD, BASE = 3 * PAGE, 6 * PAGE, 2 * PAGE, PAGE
TABLE, POSITIONS, SUMMARIES = PAGE, 2 * PAGE, 3 * PAGE
SLAB, CONTROL = LAYERS_AT + LAYERS * LAYER, 4 * PAGE
LAYOUT = struct.pack(
    "<19Q",
    SLAB, CONTROL, IDS, LAYERS_AT, LAYER, KEY_HEAD, VALUE_HEAD, VALUES_AT, BASE, BASE, 4, CAPACITY,
    TABLE, POSITIONS, 256, 128, SUMMARIES, 512, 32,
)  # fmt: skip


class Files:
    """The daemon's side of the two files."""

    def __init__(self) -> None:
        self.slab_file, self.control_file = os.memfd_create("slab"), os.memfd_create("control")
        os.ftruncate(self.slab_file, SLAB)
        os.ftruncate(self.control_file, CONTROL)
        self.slab, self.control = mmap.mmap(self.slab_file, SLAB), mmap.mmap(self.control_file, CONTROL)
        self.control[:16] = b"LAGKVCTL" + struct.pack("<II", 1, 1)
        self.arrange(generation=2, tokens=0, sealed=0, boundary=5, grant=9, rows=(0, 0))

    def arrange(
        self, generation: int, tokens: int, sealed: int, boundary: int, grant: int, rows: tuple[int, int], recalled: int = 0
    ) -> None:
        self.control[16:64] = struct.pack("<6Q", generation, tokens, sealed, 0, boundary, grant)
        self.control[TABLE : TABLE + 32] = struct.pack("<4Q", rows[0], recalled, rows[1], recalled)

    @property
    def published(self) -> int:
        return struct.unpack_from("<Q", self.slab, 0)[0]

    def key(self, layer: int, head: int, row: int) -> bytes:
        at = LAYERS_AT + layer * LAYER + head * KEY_HEAD + BASE + row * KEY
        return self.slab[at : at + KEY]

    def value(self, layer: int, head: int, row: int) -> bytes:
        at = LAYERS_AT + layer * LAYER + VALUES_AT + head * VALUE_HEAD + BASE + row * VALUE
        return self.slab[at : at + VALUE]

    def attach(self, peer: Peer, writer: bool = True) -> None:
        """Answer create or open."""
        verb, _ = peer.receive()
        assert verb in (2, 3)
        description = struct.pack("<4IB2I2dI", LAYERS, HEADS, KEY // 2, VALUE // 2, 3, 1, 2, 0.5, 1.0, 0)
        description += struct.pack("<Q", CAPACITY) + string("") + bytes(4)
        row = string("s") + struct.pack("<IB", 0, 1) + description + bytes(8 * 5 + 4 * 2 + 8 * 2) + string("")
        body = struct.pack("<IB", 77, writer) + row + LAYOUT + struct.pack("<Q", 2)
        peer.reply(body, descriptors=(self.slab_file, self.control_file))

    def close(self) -> None:
        os.close(self.slab_file)
        os.close(self.control_file)


@pytest.fixture
def files() -> Iterator[Files]:
    made = Files()
    yield made
    made.close()


Serve = Callable[[Callable[[Peer], object], bool], lagkv.Session]


@pytest.fixture
def serve(tmp_path: Path, files: Files) -> Iterator[Serve]:
    """Opens the session; ``script`` is what the daemon does afterwards."""
    running: list[tuple[FakeDaemon, lagkv.Client]] = []

    def start(script: Callable[[Peer], object], writer: bool = True) -> lagkv.Session:
        def whole(peer: Peer) -> None:
            peer.hello()
            files.attach(peer, writer)
            script(peer)

        fake = FakeDaemon(tmp_path, whole)
        fake.__enter__()
        client = lagkv.connect(fake.path)
        running.append((fake, client))
        return client.open("s", write=writer)

    yield start
    for fake, client in running:
        client.close()
        fake.__exit__(None, None, None)


def standing(tokens: int, sealed: int, generation: int) -> bytes:
    return struct.pack("<4Q", tokens, sealed, 0, generation)


def rows(count: int, first: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Tokens whose every number says layer, head, token and channel."""
    layer, head, token, channel = np.ogrid[:LAYERS, :HEADS, first : first + count, :4]
    k = (layer << 12 | head << 8 | token << 4 | channel).astype(np.uint16)
    return k, k[..., :2] | 0x8000


def test_tokens_and_ids_go_to_the_bytes_that_the_layout_names(serve: Serve, files: Files) -> None:
    s = serve(lambda peer: None, True)
    s.append(*rows(3), ids=[7, 8, 9])
    for layer in range(LAYERS):
        for head in range(HEADS):
            for token in range(3):
                number = layer << 12 | head << 8 | (token + 1) << 4
                assert files.key(layer, head, token) == struct.pack("<4H", *range(number, number + 4))
                assert files.value(layer, head, token) == struct.pack("<2H", number | 0x8000, number | 0x8001)
    assert struct.unpack_from("<4I", files.slab, IDS) == (7, 8, 9, 0)
    assert s.ids.tolist() == [7, 8, 9] and not s.ids.flags.writeable


def test_a_count_below_the_boundary_is_one_store_and_no_message(serve: Serve, files: Files) -> None:
    def script(peer: Peer) -> None:
        assert peer.silent()

    s = serve(script, True)
    for layer in range(LAYERS):
        keys, values = s.window(layer, 4)
        assert keys.shape == (HEADS, 4, 4) and values.shape == (HEADS, 4, 2)
        keys[:], values[:] = 1, 2
    s.window_ids(4)[:] = 5
    s.commit(4)
    if not lagkv.shared.ORDERED:
        pytest.skip("stores are not ordered on this machine, so every commit is a message")
    assert files.published == s.tokens == 4
    assert s.ids.tolist() == [5] * 4


def test_a_commit_at_the_boundary_is_a_message_and_the_rows_are_read_anew(serve: Serve, files: Files) -> None:
    def script(peer: Peer) -> None:
        assert peer.receive() == (5, struct.pack("<IQI", 77, 5, 0))
        files.arrange(generation=4, tokens=5, sealed=1, boundary=7, grant=11, rows=(4, 5))
        peer.reply(standing(5, 1, 4))

    s = serve(script, True)
    s.append(*rows(4))
    view = s.view(0)
    assert view.valid and len(view) == 4
    s.append(*rows(1, first=5))
    assert not view.valid
    assert [s.extent(layer) for layer in range(LAYERS)] == [slice(4, 8), slice(4, 9)]
    s.append(*rows(1, first=6))
    assert files.key(0, 1, 4)[:2] == struct.pack("<H", 1 << 8 | 6 << 4)
    assert files.key(1, 1, 5)[:2] == struct.pack("<H", 1 << 12 | 1 << 8 | 6 << 4)
    assert files.published == 6


def test_an_append_is_cut_by_the_grant_and_asks_for_room_where_that_is_used_up(serve: Serve, files: Files) -> None:
    asked = []

    def script(peer: Peer) -> None:
        for tokens, boundary, grant in ((9, 11, 10), (10, 11, 14), (14, 15, 16), (15, 17, 16)):
            verb, payload = peer.receive()
            asked.append((verb, *struct.unpack("<IQI", payload)))
            files.arrange(files.control[16] + 2, tokens, 0, boundary, grant, rows=(tokens, tokens))
            peer.reply(standing(tokens, 0, files.control[16]))

    s = serve(script, True)
    k, v = rows(15)
    s.append(k, v)
    # The tenth token is published without a message. Then the grant is full: the client asks for room with the same count.
    assert asked == [(5, 77, 9, 0), (5, 77, 10, 0), (5, 77, 14, 0), (5, 77, 15, 0)]
    assert s.tokens == 15
    for layer in range(LAYERS):
        keys, values = s.slab(layer)
        assert (keys[:, 4:19] == k[layer]).all() and (values[:, 4:19] == v[layer]).all()


def test_nothing_is_written_beyond_capacity_or_grant(serve: Serve, files: Files) -> None:
    def script(peer: Peer) -> None:
        peer.receive()
        peer.reply(standing(0, 0, 2))

    s = serve(script, True)
    with pytest.raises(lagkv.LimitExceeded) as caught:
        s.append(*rows(17))
    assert (caught.value.name, caught.value.seen, caught.value.expected) == ("beyondCapacity", "17", "at most 16")
    with pytest.raises(lagkv.LimitExceeded, match="beyondCapacity"):
        s.window(0, 17)
    with pytest.raises(lagkv.LimitExceeded, match="beyondGrant"):
        s.window(0, 10)
    assert s.tokens == 0 and files.key(0, 0, 0) == bytes(KEY)


@pytest.mark.parametrize(
    ("k", "v", "ids", "kind"),
    [
        (np.zeros((2, 2, 3, 4), np.uint16), np.zeros((2, 2, 2, 2), np.uint16), None, ValueError),
        (np.zeros((2, 2, 3, 5), np.uint16), np.zeros((2, 2, 3, 2), np.uint16), None, ValueError),
        (np.zeros((2, 3, 4), np.uint16), np.zeros((2, 3, 2), np.uint16), None, ValueError),
        (np.zeros((2, 2, 3, 4), np.float16), np.zeros((2, 2, 3, 2), np.uint16), None, TypeError),
        (np.zeros((2, 2, 3, 4), np.float32), np.zeros((2, 2, 3, 2), np.float32), None, TypeError),
        (np.zeros((2, 2, 3, 4), np.uint16), np.zeros((2, 2, 3, 2), np.uint16), [1, 2], ValueError),
        (np.zeros((2, 2, 3, 4), np.uint16), np.zeros((2, 2, 3, 2), np.uint16), [1, 2, -3], ValueError),
        (np.zeros((2, 2, 3, 4), np.uint16), np.zeros((2, 2, 3, 2), np.uint16), [1.0, 2.0, 3.0], ValueError),
    ],
)
def test_arrays_of_another_shape_or_type_are_refused_before_anything_is_written(
    serve: Serve, files: Files, k: np.ndarray, v: np.ndarray, ids: list[int] | None, kind: type[Exception]
) -> None:
    s = serve(lambda peer: None, True)
    with pytest.raises(kind):
        s.append(k, v, ids)
    assert s.tokens == files.published == 0


def test_no_tokens_at_all_are_appended_without_a_word(serve: Serve) -> None:
    s = serve(lambda peer: None, True)
    s.append(*rows(0), ids=[])
    assert s.tokens == 0 and s


def test_a_view_begins_with_recalled_rows_and_ends_with_the_published_count(serve: Serve, files: Files) -> None:
    files.arrange(generation=4, tokens=6, sealed=1, boundary=9, grant=12, rows=(5, 6), recalled=1)
    struct.pack_into("<Q", files.slab, 0, 8)
    places = range(POSITIONS + 256 * 1 + 128 * 1 + 4 * 3, POSITIONS + 256 * 1 + 128 * 1 + 4 * 12, 4)
    for number, at in enumerate(places):
        struct.pack_into("<i", files.control, at, number + 100)
    s = serve(lambda peer: None, False)
    assert s.tokens == 8
    view = s.view(1)
    assert view.tokens == 8 and view.keys.shape == (2, 9, 4) and view.values.shape == (2, 9, 2)
    assert view.positions[1].tolist() == list(range(100, 109))
    assert not any(a.flags.writeable for a in (view.keys, view.values, view.positions))
    at = LAYERS_AT + LAYER + KEY_HEAD + BASE - KEY
    files.slab[at : at + 8] = struct.pack("<4H", 1, 2, 3, 4)
    assert view.keys[1, 0].tolist() == [1, 2, 3, 4]  # row −1, and no copy


@pytest.mark.parametrize(("published", "tokens"), [(0, 6), (5, 6), (6, 6), (8, 8), (9, 6), (1 << 63, 6), ((1 << 64) - 1, 6)])
def test_a_published_count_is_believed_only_between_tokens_and_boundary(
    serve: Serve, files: Files, published: int, tokens: int
) -> None:
    files.arrange(generation=4, tokens=6, sealed=1, boundary=9, grant=12, rows=(5, 6))
    struct.pack_into("<Q", files.slab, 0, published)
    s = serve(lambda peer: None, False)
    assert s.tokens == tokens and len(s.view(0)) == tokens - 1


def test_a_reader_waits_while_the_layout_changes_and_starts_over_after_it(serve: Serve, files: Files) -> None:
    s = serve(lambda peer: peer.socket.recv(1), False)
    files.arrange(generation=3, tokens=0, sealed=0, boundary=0, grant=0, rows=(99, 99))

    def settle() -> None:
        time.sleep(0.05)
        files.arrange(generation=4, tokens=2, sealed=0, boundary=5, grant=9, rows=(2, 2))

    thread = threading.Thread(target=settle)
    thread.start()
    view = s.read(0)
    thread.join()
    assert len(view) == 2 and view.valid
    files.arrange(generation=6, tokens=2, sealed=0, boundary=5, grant=9, rows=(2, 2))
    assert view.valid  # a copy stays


def test_a_reader_of_a_daemon_that_died_in_a_change_does_not_wait_for_ever(serve: Serve, files: Files) -> None:
    s = serve(lambda peer: None, False)
    files.control[16] = 3
    with pytest.raises(lagkv.ConnectionLost):
        s.view(0)


@pytest.mark.parametrize(("state", "word"), [(2, "suspended"), (3, "deleted"), (9, "state 9")])
def test_a_session_that_left_memory_says_so(serve: Serve, files: Files, state: int, word: str) -> None:
    s = serve(lambda peer: None, False)
    files.control[12], files.control[16] = state, 4
    with pytest.raises(lagkv.SessionGone) as caught:
        s.view(0)
    assert (caught.value.seen, caught.value.expected) == (word, "open it again")
    assert word in repr(s)


def test_a_writer_never_publishes_into_a_session_that_left_memory(serve: Serve, files: Files) -> None:
    def script(peer: Peer) -> None:
        assert peer.receive()[0] == 5
        peer.reply(struct.pack("<H", 13) + string("a handle") + string("77") + string("open it again"), flags=3)

    s = serve(script, True)
    files.control[12], files.control[16] = 2, 4
    with pytest.raises(lagkv.SessionGone):
        s.commit(1)
    assert files.published == 0


def test_a_reader_cannot_write(serve: Serve) -> None:
    s = serve(lambda peer: None, False)
    for attempt in (
        lambda: s.append(*rows(1)), lambda: s.window(0, 1), lambda: s.window_ids(1), lambda: s.commit(1),
        lambda: s.truncate(0), lambda: s.recall(0, [[0], [0]]), lambda: s.release(),
    ):  # fmt: skip
        with pytest.raises(lagkv.NotPermitted) as caught:
            attempt()
        assert caught.value.name == "notWriter"
    keys, values = s.slab(0)
    assert not keys.flags.writeable and not values.flags.writeable


def test_layers_that_are_not_there_are_index_errors(serve: Serve) -> None:
    s = serve(lambda peer: None, True)
    for layer in (-1, 2):
        for attempt in (s.view, s.read, s.full, s.summaries, s.slab, s.extent, lambda n: s.window(n, 1)):
            with pytest.raises(IndexError):
                attempt(layer)


def test_summaries_are_lo_of_all_heads_and_then_hi(serve: Serve, files: Files) -> None:
    files.arrange(generation=4, tokens=7, sealed=2, boundary=9, grant=12, rows=(5, 7))
    at = SUMMARIES + 512 + 32  # layer 1, chunk 1
    files.control[at : at + 32] = struct.pack("<16H", *range(16))
    s = serve(lambda peer: None, False)
    lo, hi = s.summaries(1)
    assert lo.shape == hi.shape == (2, HEADS, 4)
    assert lo[1].ravel().tolist() == list(range(8)) and hi[1].ravel().tolist() == list(range(8, 16))
    assert not lo.flags.writeable


def test_full_lies_in_a_file_of_its_own(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        for tokens in (3, 0):
            assert peer.receive() == (7, struct.pack("<2IB", 77, 1, 0))
            descriptor = os.memfd_create("full")
            data = np.arange(96, dtype=np.uint16).tobytes() if tokens else b""
            os.write(descriptor, data)
            peer.reply(struct.pack("<7Q", tokens, 8, 24, 64, 12, 96, len(data)), descriptors=(descriptor,))
            os.close(descriptor)

    s = serve(script, True)
    k, v = s.full(1)
    assert k.shape == (2, 3, 4) and v.shape == (2, 3, 2)
    assert k.ravel().tolist() == list(range(4, 28)) and v.ravel().tolist() == list(range(32, 44))
    k[:] = 0  # ours
    k, v = s.full(1)
    assert k.shape == (2, 0, 4) and v.shape == (2, 0, 2)


@pytest.mark.parametrize("field", range(18))
def test_a_layout_that_leaves_its_file_is_a_protocol_error(tmp_path: Path, files: Files, field: int) -> None:
    sizes = list(struct.unpack("<19Q", LAYOUT))
    sizes[field] = 1 << 62
    broken = struct.pack("<19Q", *sizes)
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))

    def script(peer: Peer) -> None:
        peer.hello()
        right, peer_reply = LAYOUT, peer.reply
        peer.reply = lambda body, **rest: peer_reply(body.replace(right, broken), **rest)  # type: ignore[method-assign]
        files.attach(peer)

    with FakeDaemon(tmp_path, script) as fake, lagkv.connect(fake.path) as client:
        with pytest.raises(lagkv.ProtocolError):
            client.open("s")
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_arrays_outlive_their_session_and_the_last_one_unmaps_it(serve: Serve, files: Files) -> None:
    def mappings() -> int:
        return Path("/proc/self/maps").read_text().count("memfd:")

    gc.collect()
    before = mappings()

    def script(peer: Peer) -> None:
        assert peer.receive() == (4, struct.pack("<I", 77))
        peer.reply()

    s = serve(script, True)
    s.append(*rows(2))
    view = s.view(0)
    s.close()
    s.close()
    assert s.closed
    for attempt in (lambda: s.tokens, lambda: s.view(0), lambda: s.append(*rows(1)), lambda: s.fork("t"), s.show):
        with pytest.raises(lagkv.SessionGone, match="closed"):
            attempt()
    attempt = s = None  # type: ignore[assignment]
    gc.collect()
    assert mappings() > before and view.keys[0, 1, 0] == 2 << 4
    del view
    gc.collect()
    assert mappings() == before
