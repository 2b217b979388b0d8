"""The framing, against a daemon that gets it right and one that gets it wrong."""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

import lagkv
import pytest
from fake import HEADER, FakeDaemon, Peer, string


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_hello_says_who_we_are_and_learns_who_they_are(tmp_path: Path) -> None:
    with FakeDaemon(tmp_path, Peer.hello) as fake, lagkv.connect(fake.path) as client:
        assert (client.daemon, client.daemon_pid) == ("fake 1", 42)
        assert repr(client) == f"<lagkv.Client of 'fake 1', pid 42, at {fake.path}>"


def test_the_socket_is_looked_for_where_the_protocol_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAGKVD_SOCKET", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(lagkv.ConnectionLost) as caught:
        lagkv.connect(tmp_path / "nobody")
    assert (caught.value.code, caught.value.name) == (0, "connectionLost") and "nobody" in caught.value.seen
    (tmp_path / "named").mkdir()
    with FakeDaemon(tmp_path / "named", Peer.hello) as fake:
        monkeypatch.setenv("LAGKVD_SOCKET", str(fake.path))
        lagkv.connect().close()
    monkeypatch.delenv("LAGKVD_SOCKET")
    with FakeDaemon(tmp_path, Peer.hello) as fake:
        fake.path.rename(tmp_path / "lagkvd.sock")
        lagkv.connect().close()


def test_an_error_reply_is_a_typed_exception_and_the_connection_goes_on(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.hello()
        for code in (*range(1, 28), 999):
            assert peer.receive()[0] == 18
            peer.reply(struct.pack("<H", code) + string("a status") + string("seen") + string("expected"), flags=3)
        peer.receive()
        peer.reply(struct.pack("<I", 2) + string("uptime") + string("1 s") + string("sessions") + string("0"))

    kinds = {
        7: lagkv.NotFound, 10: lagkv.NotPermitted, 11: lagkv.Busy, 12: lagkv.NotPermitted, 13: lagkv.SessionGone,
        15: lagkv.LimitExceeded, 20: lagkv.Busy, 21: lagkv.BudgetExceeded, 23: lagkv.DiskError, 24: lagkv.Corrupt,
    }  # fmt: skip
    with FakeDaemon(tmp_path, script) as fake, lagkv.connect(fake.path) as client:
        for code in (*range(1, 28), 999):
            with pytest.raises(kinds.get(code, lagkv.LagKVError)) as caught:
                client.status()
            error = caught.value
            assert (error.code, error.message, error.seen, error.expected) == (code, "a status", "seen", "expected")
            assert str(error) == f"{error.name}: a status; seen: seen; expected: expected"
        assert client.status() == {"uptime": "1 s", "sessions": "0"}


def test_a_reply_may_come_in_any_pieces(tmp_path: Path) -> None:
    text = "metric 1\n" * 20_000

    def script(peer: Peer) -> None:
        peer.hello()
        for cut in (1, 7, 15, 16, 17, 4096, 100_000):
            peer.receive()
            data = peer.frame(struct.pack("<I", len(text)) + text.encode())
            peer.socket.sendall(data[:cut])
            time.sleep(0.01)
            peer.socket.sendall(data[cut:])

    with FakeDaemon(tmp_path, script) as fake, lagkv.connect(fake.path) as client:
        for _ in range(7):
            assert client.metrics() == text


def _says(data: Callable[[Peer], bytes]) -> Callable[[Peer], None]:
    def script(peer: Peer) -> None:
        peer.hello()
        peer.receive()
        peer.socket.sendall(data(peer))

    return script


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        pytest.param(lambda peer: peer.frame(b"12345678")[:10], lagkv.ConnectionLost, id="half a header"),
        pytest.param(lambda peer: peer.frame(b"12345678")[:20], lagkv.ConnectionLost, id="half a payload"),
        pytest.param(lambda peer: b"", lagkv.ConnectionLost, id="nothing"),
        pytest.param(lambda peer: HEADER.pack(1 << 21, 18, 1, peer.request[1]), lagkv.ProtocolError, id="oversized"),
        pytest.param(lambda peer: peer.frame(flags=0), lagkv.ProtocolError, id="no reply"),
        pytest.param(lambda peer: peer.frame(flags=5), lagkv.ProtocolError, id="a reserved flag"),
        pytest.param(lambda peer: HEADER.pack(0, 17, 1, peer.request[1]), lagkv.ProtocolError, id="another verb"),
        pytest.param(lambda peer: HEADER.pack(0, 18, 1, 99), lagkv.ProtocolError, id="another request"),
        pytest.param(lambda peer: peer.frame(b"\0\0\0\0") + b"!", lagkv.ProtocolError, id="bytes after it"),
    ],
)
def test_after_a_reply_that_breaks_the_framing_the_connection_is_closed(
    tmp_path: Path, data: Callable[[Peer], bytes], kind: type[lagkv.LagKVError]
) -> None:
    before = open_descriptors()
    with FakeDaemon(tmp_path, _says(data)) as fake, lagkv.connect(fake.path) as client:
        with pytest.raises(kind):
            client.status()
        with pytest.raises(lagkv.ConnectionLost, match="is closed"):
            client.status()
    assert open_descriptors() == before


def test_a_payload_that_is_not_its_fields_leaves_the_connection_usable(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.hello()
        for payload in (b"\1\0\0\0", b"\0\0\0\0"):
            peer.receive()
            peer.reply(payload)

    with FakeDaemon(tmp_path, script) as fake, lagkv.connect(fake.path) as client:
        with pytest.raises(lagkv.ProtocolError, match="ends early"):
            client.status()
        assert client.status() == {}


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_descriptors_nobody_expects_are_closed(tmp_path: Path, count: int) -> None:
    def script(peer: Peer) -> None:
        peer.hello()
        peer.receive()
        # The client may hang up at the first byte, which brings the descriptors.
        with open(os.devnull) as null, contextlib.suppress(BrokenPipeError):
            peer.reply(b"\0\0\0\0", descriptors=(null.fileno(),) * count)

    before = open_descriptors()
    with FakeDaemon(tmp_path, script) as fake, lagkv.connect(fake.path) as client:
        if count == 0:
            assert client.status() == {}
        else:
            with pytest.raises(lagkv.ProtocolError, match="descriptors"):
                client.status()
    assert open_descriptors() == before


def test_another_version_is_refused(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.receive()
        peer.reply(struct.pack("<H", 2) + string("fake") + struct.pack("<Q", 1))

    before = open_descriptors()
    with FakeDaemon(tmp_path, script) as fake, pytest.raises(lagkv.ProtocolError, match="version"):
        lagkv.connect(fake.path)
    assert open_descriptors() == before


def test_what_the_daemon_says_before_it_hangs_up_is_heard(tmp_path: Path) -> None:
    """A daemon with too many connections may answer and close at once."""

    def script(peer: Peer) -> None:
        peer.receive()
        peer.reply(struct.pack("<H", 26) + string("connections of one user") + string("4097") + string("at most 4096"), 3)

    with FakeDaemon(tmp_path, script) as fake, pytest.raises(lagkv.OutOfResources, match="connections of one user"):
        lagkv.connect(fake.path)


def test_an_error_about_the_connection_as_a_whole_is_heard(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.hello()
        peer.receive()
        peer.request = (0, 0)
        peer.reply(struct.pack("<H", 25) + string("the daemon is stopping") + string("") + string(""), 3)

    with FakeDaemon(tmp_path, script) as fake, lagkv.connect(fake.path) as client:
        with pytest.raises(lagkv.ConnectionLost, match="shuttingDown"):
            client.status()
        with pytest.raises(lagkv.ConnectionLost):
            client.status()


def test_a_request_that_takes_too_long_ends_the_connection(tmp_path: Path) -> None:
    released = threading.Event()

    def script(peer: Peer) -> None:
        peer.hello()
        peer.receive()
        released.wait(10)

    with FakeDaemon(tmp_path, script) as fake, lagkv.connect(fake.path, timeout=0.05) as client:
        with pytest.raises(lagkv.ConnectionLost, match="timed out"):
            client.status()
        released.set()
        with pytest.raises(lagkv.ConnectionLost):
            client.status()


@pytest.mark.parametrize("timeout", [None, 0.2])
def test_a_daemon_that_is_silent_is_not_a_daemon_that_is_gone(tmp_path: Path, timeout: float | None) -> None:
    done = threading.Event()

    def script(peer: Peer) -> None:
        peer.hello()
        done.wait(10)

    with FakeDaemon(tmp_path, script) as fake, lagkv.connect(fake.path, timeout=timeout) as client:
        client._connection.check()
        done.set()
        fake._thread.join()
        with pytest.raises(lagkv.ConnectionLost):
            client._connection.check()


def test_an_interrupt_from_the_keyboard_leaves_no_reply_to_be_mistaken_for_the_next(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.hello()
        peer.receive()
        os.kill(os.getpid(), signal.SIGINT)
        assert peer.socket.recv(1) == b""  # hung up

    # A shell starts what it puts in the background with the signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with FakeDaemon(tmp_path, script) as fake, lagkv.connect(fake.path) as client:
            with pytest.raises(KeyboardInterrupt):
                client.status()
            with pytest.raises(lagkv.ConnectionLost):
                client.status()
    finally:
        signal.signal(signal.SIGINT, before)


def test_requests_of_many_threads_take_turns(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.hello()
        for _ in range(100):
            _, payload = peer.receive()
            peer.reply(struct.pack("<H", 7) + payload[:-4] + string("") + string(""), flags=3)

    def ask(client: lagkv.Client, name: str, failures: list[str]) -> None:
        for _ in range(25):
            try:
                client.show(name)
            except lagkv.NotFound as error:
                if error.message != name:
                    failures.append(error.message)

    with FakeDaemon(tmp_path, script) as fake, lagkv.connect(fake.path) as client:
        failures: list[str] = []
        threads = [threading.Thread(target=ask, args=(client, f"name{i}", failures)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []


def test_a_request_beyond_the_frame_limit_is_never_sent(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.hello()
        peer.receive()
        peer.reply()

    with FakeDaemon(tmp_path, script) as fake, lagkv.connect(fake.path) as client:
        with pytest.raises(lagkv.LimitExceeded, match="bytes of a string"):
            client.delete("x" * 70_000)
        with pytest.raises(lagkv.LimitExceeded, match="bytes of a request"):
            client._connection.tell(lagkv.wire.Verb.RECALL, bytes(1 << 20 | 1))
        client.delete("x")


def test_a_client_that_is_closed_says_so(tmp_path: Path) -> None:
    with FakeDaemon(tmp_path, Peer.hello) as fake:
        client = lagkv.connect(fake.path)
        client.close()
        client.close()
        assert "closed" in repr(client)
        with pytest.raises(lagkv.ConnectionLost):
            client.status()
