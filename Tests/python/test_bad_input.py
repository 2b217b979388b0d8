"""Everything wrong that a stranger would send. Each gets its typed error, and a bystander's session never notices."""

from __future__ import annotations

import mmap
import multiprocessing
import os
import random
import resource
import socket
import struct
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import lagkv
import numpy as np
import pytest
from conftest import Daemon, opened
from fake import HEADER, string

HELLO = b"LGKV" + struct.pack("<HH", 1, 1) + string("stranger")
CREATE = lagkv.wire.Description(
    layers=1, kv_heads=1, key_dim=4, value_dim=4, dtype="float32", sink=2, lag=4, keep_ratio=0.5, value_weight=1,
    uncompressed_layers=(), capacity=64, fingerprint="", shared=False, disposable=False,
)  # fmt: skip


class Stranger:
    """A raw socket."""

    def __init__(self, path: Path, hello: bytes | None = HELLO) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(20)
        self.socket.connect(str(path))
        if hello is not None:
            assert self.ask(1, hello)[0] == 1

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, verb: int, payload: bytes, number: int = 7, flags: int = 0) -> tuple[int, bytes]:
        self.send(HEADER.pack(len(payload), verb, flags, number) + payload)
        return self.hear()

    def hear(self) -> tuple[int, bytes]:
        """Flags and payload of the next reply."""
        length, _, flags, _ = HEADER.unpack(self._exactly(16))
        return flags, self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def refused(self, verb: int, payload: bytes, flags: int = 0) -> str:
        """The name of the error that a request gets."""
        flags, body = self.ask(verb, payload, flags=flags)
        assert flags == 3, (flags, body)
        fields = lagkv.wire.Fields(body)
        name, message = lagkv.errors.CODES[fields.u16()][0], fields.string()
        assert message
        fields.string(), fields.string()
        fields.end()
        return name

    def hung_up(self) -> bool:
        """Whether the daemon closed the connection."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True


@pytest.fixture(autouse=True)
def bystander(daemon: Daemon, client: lagkv.Client) -> Iterator[lagkv.Session]:
    """A session of somebody who does everything right. After every test it holds what it held, and goes on."""
    s = client.create("bystander", layers=2, kv_heads=2, key_dim=8, dtype="float16", sink=2, lag=8, capacity=2000)
    k = np.random.default_rng(3).standard_normal((2, 2, 100, 8)).astype(np.float16)
    s.append(k, -k)
    before = [s.read(layer) for layer in range(2)]
    yield s
    for layer in range(2):
        after = s.read(layer)
        assert (after.keys == before[layer].keys).all() and (after.positions == before[layer].positions).all()
    s.append(k, -k)
    full = s.full(1)
    assert (full[0] == np.concatenate([k[1], k[1]], 1)).all() and (full[1] == -full[0]).all()


@pytest.fixture
def stranger(daemon: Daemon) -> Iterator[Stranger]:
    made = Stranger(daemon.socket)
    yield made
    made.socket.close()


def test_a_frame_that_ends_early_costs_its_own_connection_only(daemon: Daemon) -> None:
    whole = HEADER.pack(len(HELLO), 1, 0, 1) + HELLO
    for length in range(len(whole)):
        cut = Stranger(daemon.socket, hello=None)
        cut.send(whole[:length])
        cut.socket.close()


def test_an_oversized_frame_is_refused_by_its_header(daemon: Daemon) -> None:
    for length in (1 << 20 | 1, 0xFFFF_FFFF):
        stranger = Stranger(daemon.socket)
        stranger.send(HEADER.pack(length, 18, 0, 1))
        flags, body = stranger.hear()
        assert flags == 3 and body[:2] in (b"\1\0", b"\5\0")
        assert stranger.hung_up()


@pytest.mark.parametrize("flags", [1, 2, 3, 4, 0x8000])
def test_a_request_with_flags_is_refused_and_the_connection_closed(stranger: Stranger, flags: int) -> None:
    assert stranger.refused(18, b"", flags=flags) == "badFrame"
    assert stranger.hung_up()


@pytest.mark.parametrize(
    ("verb", "payload"),
    [
        (1, b"LGKV" + struct.pack("<HH", 2, 9) + string("from the future")),
        (1, b"LGKV" + struct.pack("<HH", 0, 0) + string("from the past")),
        (1, b"HTTP" + struct.pack("<HH", 1, 1) + string("")),
        (18, b""),
    ],
)
def test_another_version_or_no_hello_is_bad_version(daemon: Daemon, verb: int, payload: bytes) -> None:
    stranger = Stranger(daemon.socket, hello=None)
    assert stranger.refused(verb, payload) == "badVersion"


def test_noise_is_refused(daemon: Daemon) -> None:
    for text in (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\0" * 64, b"\xff" * 64):
        stranger = Stranger(daemon.socket, hello=None)
        stranger.send(text)
        try:
            assert stranger.hear()[0] == 3
        except EOFError:
            pass
        stranger.socket.close()


@pytest.mark.parametrize("verb", [0, 22, 99, 0xFFFF])
def test_an_unknown_verb_is_named_and_the_connection_goes_on(stranger: Stranger, verb: int) -> None:
    assert stranger.refused(verb, b"") == "unknownVerb"
    assert stranger.refused(verb, b"whatever it means") == "unknownVerb"
    assert stranger.ask(18, b"")[0] == 1


def test_a_payload_that_is_not_its_fields_is_a_bad_frame_and_the_connection_goes_on(stranger: Stranger) -> None:
    create = string("half") + CREATE.encoded()
    for length in range(len(create)):
        assert stranger.refused(2, create[:length]) in ("badFrame", "badName", "badRequest", "limitExceeded")
    assert stranger.refused(2, create + b"\0") == "badFrame"
    assert stranger.refused(16, string("half") + b"\xff" * 4) == "notFound"
    assert stranger.refused(3, string("bystander") + b"\xff" * 4 + b"\2\0" + string("")) == "badFrame"
    assert stranger.refused(16, b"\2\0\xff\xfe" + b"\xff" * 4) == "badFrame"
    assert stranger.refused(8, struct.pack("<II", 1, 0xFFFF_FFFF)) in ("badFrame", "limitExceeded")


@pytest.mark.parametrize("seed", range(5))
def test_random_payloads_of_every_verb_are_answered(stranger: Stranger, seed: int) -> None:
    chance = random.Random(seed)
    valid = [
        string("bystander") + b"\xff" * 4, string("x") + CREATE.encoded(), struct.pack("<IQI", 1, 1, 0), struct.pack("<II", 1, 1),
    ]  # fmt: skip
    for _ in range(300):
        verb = chance.choice([2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 15, 16, 17, 18, 19])
        payload = bytearray(chance.choice(valid))
        for _ in range(chance.randrange(4)):
            payload[chance.randrange(len(payload))] = chance.randrange(256)
        if verb in (11, 12) and bytes(payload).startswith(string("bystander")):
            continue  # It may be forked and renamed by its owner, who this is.
        flags, _ = stranger.ask(verb, bytes(payload[: chance.randrange(len(payload) + 1)]))
        assert flags in (1, 3)


ABSURD = {
    "layers": (0, 257, 1 << 31), "kv_heads": (0, 257), "key_dim": (0, 1025), "value_dim": (1025, 0xFFFF_FFFF),
    "sink": (65_537,), "lag": (0, 1, 65_537), "keep_ratio": (0.0, -1.0, 1.01, float("nan"), float("inf")),
    "value_weight": (-0.5, float("nan"), float("inf")), "capacity": (0, (16 << 20) + 1, (1 << 64) - 1),
    "uncompressed_layers": ((0, 0), (1, 0), (7,), (1 << 30,)), "fingerprint": ("x" * 257,),
}  # fmt: skip


@pytest.mark.parametrize("field", ABSURD)
def test_absurd_geometry_and_policy_are_refused_with_the_limit(client: lagkv.Client, field: str) -> None:
    for value in ABSURD[field]:
        chosen = {"layers": 4, "kv_heads": 2, "key_dim": 4, "value_dim": 4, "capacity": 100} | {field: value}
        with pytest.raises((lagkv.LimitExceeded, lagkv.BadRequest)) as caught:
            client.create("absurd", **chosen)
        assert caught.value.expected
        with pytest.raises(lagkv.NotFound):
            client.show("absurd")


def test_geometry_whose_product_is_absurd_is_refused(client: lagkv.Client) -> None:
    for chosen in (
        {"layers": 256, "kv_heads": 256, "key_dim": 1024, "lag": 65536, "dtype": "float32"},
        {"layers": 256, "kv_heads": 256, "key_dim": 1024, "lag": 2, "sink": 0, "dtype": "float32", "capacity": 16 << 20},
    ):
        with pytest.raises(lagkv.LimitExceeded):
            client.create("absurd", **chosen)


NAMES = ["", "a/b", "/", "../up", "..", ".hidden", "-flag", "a b", "a\0b", "é", "x" * 129, "new\nline", "a\\b", "*"]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_that_is_none_is_a_bad_name(client: lagkv.Client, name: str) -> None:
    attempts = (
        lambda: client.create(name, layers=1, kv_heads=1, key_dim=4), lambda: client.open(name), lambda: client.delete(name),
        lambda: client.fork("bystander", name), lambda: client.rename("bystander", name), lambda: client.show(name),
    )  # fmt: skip
    for attempt in attempts:
        with pytest.raises(lagkv.BadRequest) as caught:
            attempt()
        assert caught.value.name == "badName"


def test_handles_of_nobody_and_of_others_are_bad_handles(client: lagkv.Client, stranger: Stranger) -> None:
    for handle in (0, 1, 2, 77, 0xFFFF_FFFF):
        for verb, rest in ((4, b""), (5, bytes(12)), (6, b"\0"), (7, bytes(5)), (8, bytes(4)), (9, b""), (10, bytes(8))):
            assert stranger.refused(verb, struct.pack("<I", handle) + rest) == "badHandle"


def test_counts_that_cannot_be_are_refused_and_change_nothing(client: lagkv.Client, bystander: lagkv.Session) -> None:
    before = bystander.show()
    for tokens, names in (
        (99, {"badTokenCount"}), (2001, {"beyondCapacity"}), (1 << 63, {"limitExceeded"}), ((1 << 64) - 1, {"limitExceeded"}),
    ):  # fmt: skip
        with pytest.raises(lagkv.LagKVError) as caught:
            bystander.commit(tokens)
        assert caught.value.name in names | {"beyondCapacity", "beyondGrant"}
        with pytest.raises(lagkv.LagKVError):
            bystander.truncate(max(tokens, 101))
    with pytest.raises(lagkv.LimitExceeded):
        bystander._connection.ask(lagkv.wire.Verb.FULL, bystander._handled() + struct.pack("<I?", 2, False), lambda fields: None)
    after = bystander.show()
    assert (after.tokens, after.sealed_chunks) == (before.tokens, before.sealed_chunks)


def test_inlets_that_make_no_sense_are_refused_and_cost_nothing(daemon: Daemon, bystander: lagkv.Session) -> None:
    inlet, deliver, commit = lagkv.wire.Verb.INLET, lagkv.wire.Verb.DELIVER, lagkv.wire.Verb.COMMIT
    before = bystander.show()

    def refused(verb: lagkv.wire.Verb, body: bytes, handle: bytes | None = None) -> str:
        with pytest.raises(lagkv.LagKVError) as caught:
            bystander._connection.exchange(verb, (handle or bystander._handled()) + body, descriptors=0)
        return caught.value.name

    t, capacity = bystander.tokens, bystander.description.capacity
    for after, wanted, name in (
        (t + 1, t + 2, "badTokenCount"), (t - 1, t + 2, "badTokenCount"), (t, t, "badTokenCount"), (t, 0, "badTokenCount"),
        (t, capacity + 1, "beyondCapacity"), (1 << 63, 1, "limitExceeded"), (t, (1 << 64) - 1, "limitExceeded"),
    ):  # fmt: skip
        assert refused(inlet, struct.pack("<QQ", after, wanted)) == name, (after, wanted)
    assert refused(deliver, struct.pack("<QI", t, 1)) == "badTokenCount"
    assert refused(commit, struct.pack("<QI", t + 1, 1)) == "badTokenCount"
    with lagkv.connect(daemon.socket) as other:
        reader = other.open(bystander.name)
        with pytest.raises(lagkv.LagKVError) as caught:
            reader._connection.exchange(inlet, reader._handled() + struct.pack("<QQ", t, t + 1), descriptors=1)
        assert caught.value.name == "notWriter"

    _, (descriptor,) = bystander._connection.exchange(inlet, bystander._handled() + struct.pack("<QQ", t, t + 1), descriptors=1)
    os.close(descriptor)
    assert refused(deliver, struct.pack("<QI", capacity + 1, 1)) == "badTokenCount"
    assert refused(deliver, struct.pack("<QI", t + 1, 257)) == "limitExceeded"
    assert refused(commit, struct.pack("<QI", capacity + 1, 1)) == "badTokenCount"
    # What was granted and never committed is forgotten.
    bystander.truncate(t)
    assert refused(commit, struct.pack("<QI", t + 1, 1)) == "badTokenCount"
    after = bystander.show()
    assert (after.tokens, after.sealed_chunks) == (before.tokens, before.sealed_chunks)


def test_commits_with_reserved_flags_are_refused(bystander: lagkv.Session) -> None:
    for flags in (4, 0x8000_0000):
        with pytest.raises(lagkv.BadRequest):
            bystander._change(lagkv.wire.Verb.COMMIT, struct.pack("<QI", 100, flags))


def test_whatever_is_scribbled_where_the_count_is_published_is_no_count(daemon: Daemon, client: lagkv.Client) -> None:
    for number, scribble in enumerate((0, 1, 1 << 40, 1 << 63, (1 << 64) - 1)):
        name = f"scribble{number}"
        s = client.create(name, layers=1, kv_heads=1, key_dim=4, dtype="float32", sink=2, lag=4, capacity=64)
        k = np.arange(4 * 12, dtype=np.float32).reshape(1, 1, 12, 4)
        s.append(k, k)
        s._slab.published[0] = scribble
        s.close()
        with client.open(name) as reader:
            assert reader.tokens == 12
            assert (reader.full(0)[0] == k[0]).all()
        assert client.suspend(name).tokens == 12


def test_a_client_that_takes_no_descriptors_gets_no_session_but_costs_none_either(daemon: Daemon, client: lagkv.Client) -> None:
    stranger = Stranger(daemon.socket)
    for _ in range(50):
        assert stranger.ask(3, string("bystander") + b"\xff" * 4 + b"\0\0" + string(""))[0] == 1
    stranger.socket.close()
    stranger = Stranger(daemon.socket)
    assert stranger.ask(2, string("no-files") + CREATE.encoded())[0] == 1
    stranger.socket.close()
    with opened(client, "no-files") as s:
        s.append(np.ones((1, 1, 20, 4), np.float32), np.ones((1, 1, 20, 4), np.float32))
        assert s.tokens == 20


def test_descriptors_that_a_client_sends_are_closed_unseen(daemon: Daemon) -> None:
    assert daemon.process is not None
    folder = Path(f"/proc/{daemon.process.pid}/fd")
    stranger = Stranger(daemon.socket)
    before = len(list(folder.iterdir()))
    with open(os.devnull) as null:
        for _ in range(20):
            header = HEADER.pack(0, 18, 0, 1)
            socket.send_fds(stranger.socket, [header], [null.fileno()] * 3)
            assert stranger.hear()[0] == 1
    for _ in range(1000):  # Connections of earlier tests may end meanwhile, which only lowers the count.
        if len(list(folder.iterdir())) <= before:
            return
        time.sleep(0.005)
    raise AssertionError("descriptors are left")


def test_nobody_can_map_the_daemons_word_writable(client: lagkv.Client, daemon: Daemon) -> None:
    body, (slab, control) = client._connection.exchange(
        lagkv.wire.Verb.OPEN, string("bystander") + b"\xff" * 4 + b"\0\0" + string(""), descriptors=2
    )
    try:
        for descriptor in (slab, control):
            with pytest.raises(PermissionError):
                mmap.mmap(descriptor, 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
            for resize in (0, 1 << 40):
                with pytest.raises(OSError):
                    os.ftruncate(descriptor, resize)
            with pytest.raises(OSError):
                os.pwrite(descriptor, b"!", 0)
        with pytest.raises(PermissionError):  # Not even by opening it anew.
            fresh = os.open(f"/proc/self/fd/{control}", os.O_RDWR)
            try:
                mmap.mmap(fresh, 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
            finally:
                os.close(fresh)
    finally:
        os.close(slab)
        os.close(control)
    assert body


VERBS = ("open", "write", "show", "delete", "suspend", "fork")


def as_another_user(folder: Path, owner: int, told: Connection) -> None:
    """Try every verb on somebody else's sessions; tells what came of each."""
    os.chdir(folder)  # While we may still walk there.
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    seen: dict = {}
    with lagkv.connect("lagkvd.sock", timeout=60) as client:
        seen["list"] = [[row.name for row in client.sessions(everybody)] for everybody in (False, True)]

        def attempt(name: str, verb: str) -> str:
            if verb in ("open", "write"):
                with client.open(name, write=verb == "write", owner=owner) as s:
                    return f"{s.tokens} tokens"
            if verb == "fork":
                return str(client.fork(name, "mine", owner=owner).owner)
            getattr(client, verb)(name, owner=owner)
            return "done"

        for name in ("private", "shared"):
            for verb in VERBS:
                try:
                    seen[f"{name} {verb}"] = attempt(name, verb)
                except lagkv.LagKVError as error:
                    seen[f"{name} {verb}"] = error.name
        client.delete("mine")
    told.send(seen)


def test_another_users_session_is_not_there_unless_it_is_shared_and_then_only_to_read(
    daemon: Daemon, client: lagkv.Client
) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    for name in ("private", "shared"):
        with client.create(name, layers=1, kv_heads=1, key_dim=4, dtype="float32", shared=name == "shared") as s:
            s.append(np.ones((1, 1, 20, 4), np.float32), np.ones((1, 1, 20, 4), np.float32))
    daemon.socket.chmod(0o666)
    daemon.socket.parent.chmod(0o711)
    ours, theirs = multiprocessing.Pipe()
    # Forked, not started anew: the other user may not even read the interpreter.
    other = multiprocessing.get_context("fork").Process(
        target=as_another_user, args=(daemon.socket.parent, os.getuid(), theirs), daemon=True
    )
    other.start()
    theirs.close()
    assert ours.poll(60)
    seen = ours.recv()
    other.join()
    assert seen.pop("list") == [[], ["shared"]]
    expected = {f"private {verb}": "notFound" for verb in VERBS}
    expected |= {"shared open": "20 tokens", "shared show": "done", "shared fork": "65534"}
    expected |= {f"shared {verb}": "notPermitted" for verb in ("write", "delete", "suspend")}
    assert seen == expected


def test_a_client_that_does_not_read_its_replies_waits_for_itself(daemon: Daemon) -> None:
    stranger = Stranger(daemon.socket)
    stranger.socket.setblocking(False)
    request, sent = HEADER.pack(0, 19, 0, 1), 0
    try:
        for _ in range(100_000):
            sent += stranger.socket.send(request)
    except BlockingIOError:
        pass
    assert sent < 100_000 * len(request)
    stranger.socket.close()


def test_many_connections_at_once_are_answered(daemon: Daemon) -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    clients = [daemon.connect() for _ in range(min(300, soft // 3))]
    assert all(client.status() for client in clients)
    for client in clients:
        client.close()
