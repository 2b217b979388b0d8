"""A daemon of a few lines that says what a test tells it to, right or wrong."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

HEADER = struct.Struct("<IHHQ")


class Peer:
    """The daemon's end of one connection."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.request = (0, 0)

    def receive(self) -> tuple[int, bytes]:
        """The next request's verb and payload; its flags must be 0."""
        header = self._exactly(HEADER.size)
        length, verb, flags, number = HEADER.unpack(header)
        assert flags == 0
        self.request = (verb, number)
        return verb, self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            assert part, "the client hung up"
            data += part
        return data

    def frame(self, payload: bytes = b"", flags: int = 1) -> bytes:
        """A reply to the last request."""
        verb, number = self.request
        return HEADER.pack(len(payload), verb, flags, number) + payload

    def reply(self, payload: bytes = b"", flags: int = 1, descriptors: tuple[int, ...] = ()) -> None:
        """Send a reply, its descriptors with its first byte."""
        data = self.frame(payload, flags)
        if descriptors:
            socket.send_fds(self.socket, [data[:1]], descriptors)
            data = data[1:]
        self.socket.sendall(data)

    def silent(self) -> bool:
        """Whether the client sends nothing for a while."""
        self.socket.settimeout(0.05)
        try:
            return self.socket.recv(1) == b""
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(None)

    def hello(self) -> None:
        """Answer hello as the specification has it."""
        verb, payload = self.receive()
        assert (verb, payload[:8]) == (1, b"LGKV\1\0\1\0")
        self.reply(struct.pack("<H", 1) + string("fake 1") + struct.pack("<Q", 42))


class FakeDaemon:
    """Listens at ``folder``/fake.sock and runs ``script`` with the one connection that comes. Leaving the block waits for
    the script, and raises what it raised."""

    def __init__(self, folder: Path, script: Callable[[Peer], None]) -> None:
        self.path = folder / "fake.sock"
        self._script = script
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listening.bind(str(self.path))
        self._listening.listen(1)
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        connected, _ = self._listening.accept()
        with connected:
            try:
                self._script(Peer(connected))
            except BaseException as error:
                self._failure = error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._thread.join(10)
        self._listening.close()
        assert not self._thread.is_alive(), "the script did not end"
        if self._failure is not None and error is None:
            raise self._failure


def string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<H", len(data)) + data
