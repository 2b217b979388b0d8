"""One socket to the daemon: a request goes out, its reply and its descriptors come back."""

from __future__ import annotations

import array
import mmap
import os
import select
import socket
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from . import errors
from .wire import ERROR, FRAME_BYTES, HEADER, REPLY, Fields, Verb

T = TypeVar("T")

#: A first read this long takes most replies, descriptors included, in one system call.
_FIRST_READ = 4096
#: Room for the two descriptors that a reply has at most.
_ANCILLARY = socket.CMSG_SPACE(2 * array.array("i").itemsize)


def default_paths() -> list[str]:
    """Where the daemon's socket is looked for: `$LAGKVD_SOCKET` alone if it is set, else the user's, then the system's."""
    named = os.environ.get("LAGKVD_SOCKET")
    if named:
        return [named]
    system = "/run/lagkvd/lagkvd.sock"
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/"):
        return [f"{runtime}/lagkvd.sock", system]
    temporary = f"/tmp/lagkvd-{os.geteuid()}"
    return [f"{temporary}/lagkvd.sock", system] if _is_own_directory(temporary) else [system]


def _is_own_directory(path: str) -> bool:
    """Whether it is this user's: anybody can make a directory in ``/tmp``."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


class Connection:
    """A connected socket, safe to use from several threads: one request is under way at a time.

    A request that fails half way (an interrupt from the keyboard, a timeout, a broken frame) closes the connection, for
    nobody could tell any more which reply belongs to which request.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, timeout: float | None = None) -> None:
        self._lock = threading.Lock()
        self._last = 0
        #: Inlets by number, mapped, those used last at the end.
        self.inlets: OrderedDict[int, mmap.mmap] = OrderedDict()
        self._socket: socket.socket | None = None
        self.path = ""
        failures = []
        for place in [os.fspath(path)] if path is not None else default_paths():
            trial = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            trial.settimeout(timeout)
            try:
                trial.connect(place)
            except OSError as error:
                trial.close()
                failures.append(f"{place}: {error.strerror or error}")
                continue
            self._socket, self.path = trial, place
            return
        raise errors.lost("no daemon answers", "; ".join(failures), "a running lagkvd: start it, or pass its socket's path")

    @property
    def is_open(self) -> bool:
        """Whether requests can still be made, as far as this side knows."""
        return self._socket is not None

    def close(self) -> None:
        """Close the socket; the daemon ends the leases of its sessions. Closing twice does nothing."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def check(self) -> None:
        """Raise ``ConnectionLost`` if the daemon is gone, without waiting for it."""
        # Not recv with MSG_DONTWAIT: Python has a socket with a timeout wait that long first, whatever the flags.
        hang_up = select.poll()
        try:
            if self._socket is not None:
                hang_up.register(self._socket, select.POLLRDHUP)
                if not hang_up.poll(0):
                    return
        except ValueError:  # closed by another thread meanwhile
            pass
        raise errors.lost("the connection has ended", expected="connect again")

    def ask(self, verb: Verb, payload: bytes, read: Callable[[Fields], T]) -> T:
        """Make a request whose reply carries no descriptor, and read the reply with ``read``."""
        body, _ = self.exchange(verb, payload, descriptors=0)
        fields = Fields(body)
        value = read(fields)
        fields.end()
        return value

    def tell(self, verb: Verb, payload: bytes) -> None:
        """Make a request whose reply is empty."""
        self.ask(verb, payload, lambda _: None)

    def exchange(self, verb: Verb, payload: bytes, descriptors: int) -> tuple[bytes, list[int]]:
        """Make a request; returns the reply's payload and its descriptors, which are then the caller's to close.

        Raises:
            LagKVError: what the daemon answered, or ``ConnectionLost``.
        """
        if len(payload) > FRAME_BYTES:
            errors.refuse("limitExceeded", "bytes of a request", len(payload), f"at most {FRAME_BYTES}")
        received: list[int] = []
        try:
            with self._lock:
                flags, body = self._converse(verb, payload, received)
            if flags & ERROR:
                raise _failure(body)
            if len(received) != descriptors:
                raise errors.garbled(f"descriptors with the reply to {verb.name.lower()}", len(received), descriptors)
        except BaseException:
            for descriptor in received:
                os.close(descriptor)
            raise
        return body, received

    def _converse(self, verb: Verb, payload: bytes, received: list[int]) -> tuple[int, bytes]:
        """One frame out, one frame in. Closes the connection if it cannot be used any further."""
        if self._socket is None:
            raise errors.lost("the connection is closed", expected="connect again")
        self._last += 1
        try:
            try:
                self._socket.sendall(HEADER.pack(len(payload), verb, 0, self._last) + payload)
            except BrokenPipeError:
                pass  # The daemon has hung up, but what it said before may still be there to read.
            return self._receive(verb, self._last, received)
        except OSError as error:
            self._drop()
            raise errors.lost("the connection to the daemon broke", error, "connect again") from error
        except BaseException:
            self._drop()
            raise

    def _receive(self, verb: Verb, number: int, received: list[int]) -> tuple[int, bytes]:
        data = self._read_first(received)
        while len(data) < HEADER.size:
            data += self._read_first(received)
        length, its_verb, flags, its_number = HEADER.unpack_from(data)
        if length > FRAME_BYTES:
            raise errors.garbled("bytes of a reply", length, f"at most {FRAME_BYTES}")
        if flags & ~(REPLY | ERROR) or not flags & REPLY:
            raise errors.garbled("the flags of a reply", flags, "1 or 3")
        # An error of no verb and no request is about the connection as a whole.
        about_all = flags & ERROR and (its_verb, its_number) == (0, 0)
        if (its_verb, its_number) != (verb, number) and not about_all:
            raise errors.garbled("a reply", f"verb {its_verb}, request {its_number}", f"verb {verb}, request {number}")
        missing = HEADER.size + length - len(data)
        if missing < 0:
            raise errors.garbled("bytes after a reply that nobody asked for", -missing, 0)
        if missing == 0:
            return flags, data[HEADER.size :]
        body = bytearray(length)
        body[: length - missing] = data[HEADER.size :]
        rest = memoryview(body)[length - missing :]
        while rest:
            count = self._socket.recv_into(rest)  # type: ignore[union-attr]
            if count == 0:
                raise errors.lost("the daemon hung up in the middle of a reply", expected="connect again")
            rest = rest[count:]
        return flags, bytes(body)

    def _read_first(self, received: list[int]) -> bytes:
        """Some bytes, at least one; descriptors that come with them are added to ``received``."""
        data, ancillary, flags, _ = self._socket.recvmsg(  # type: ignore[union-attr]
            _FIRST_READ, _ANCILLARY, socket.MSG_CMSG_CLOEXEC
        )
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                descriptors = array.array("i")
                descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
                received.extend(descriptors)
        if flags & socket.MSG_CTRUNC:
            raise errors.garbled("descriptors with a reply", "more than 2, or no room for them in this process", "at most 2")
        if not data:
            raise errors.lost("the daemon hung up", expected="connect again")
        return data


def _failure(body: bytes) -> errors.LagKVError:
    fields = Fields(body)
    code, message, seen, expected = fields.u16(), fields.string(), fields.string(), fields.string()
    fields.end()
    return errors.from_code(code, message, seen, expected)
