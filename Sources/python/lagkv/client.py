"""The connection to a daemon, and what can be asked without an open session."""

from __future__ import annotations

import os
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from . import elements, errors
from .connection import Connection
from .directory import Directory, whose
from .session import Session
from .wire import MAGIC, VERSION, Attachment, Description, Fields, Verb, string, u8, u16, u32


def connect(path: str | os.PathLike[str] | None = None, *, timeout: float | None = None) -> Client:
    """Connect to a daemon.

    Args:
        path: its socket; without one ``$LAGKVD_SOCKET``, else ``lagkvd.sock`` in ``$XDG_RUNTIME_DIR`` (where that is not set,
            in ``/tmp/lagkvd-UID``), else ``/run/lagkvd/lagkvd.sock``.
        timeout: seconds after which a request is given up, and the connection with it. Without one it waits.

    Raises:
        ConnectionLost: nobody answers there.
        ProtocolError: somebody does, but speaks another version.
    """
    return Client(Connection(path, timeout))


class Client(Directory):
    """A connection to a daemon. May be used from several threads; requests take turns.

    Closing it ends all its sessions' leases. ``with lagkv.connect() as client`` closes it at the end.

    Methods that take ``owner`` mean the caller's own session without it, else that of the user with that id.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        try:
            hello = u32(MAGIC) + u16(VERSION) + u16(VERSION) + string("lagkv for Python")
            version, self.daemon, self.daemon_pid = connection.ask(
                Verb.HELLO, hello, lambda fields: (fields.u16(), fields.string(), fields.u64())
            )
            if version != VERSION:
                raise errors.garbled("the version that the daemon chose", version, VERSION)
        except BaseException:
            connection.close()
            raise

    # MARK: opening

    def create(
        self,
        name: str,
        *,
        layers: int,
        kv_heads: int,
        key_dim: int,
        value_dim: int | None = None,
        dtype: object = "bfloat16",
        capacity: int = 8192,
        sink: int = 16,
        lag: int = 128,
        keep_ratio: float = 0.25,
        value_weight: float = 1.0,
        uncompressed_layers: Iterable[int] = (),
        fingerprint: str = "",
        shared: bool = False,
        disposable: bool = False,
    ) -> Session:
        """Make a session and open it for writing.

        Args:
            name: 1 to 128 of ``A–Z a–z 0–9 . _ : @ + = -``, not beginning with a dot or a hyphen.
            value_dim: as ``key_dim`` without it.
            dtype: float32, float16, bfloat16, float8_e4m3 or float8_e5m2.
            capacity: the most tokens it will ever hold; only what is used takes memory.
            sink, lag, keep_ratio, value_weight, uncompressed_layers: LagKV's S, L, r, α, and the layers it leaves alone.
            fingerprint: what the numbers mean (model, revision, rotary settings); compared when it is opened.
            shared: other users may read it.
            disposable: it may be deleted when the disk budget is full.

        Raises:
            AlreadyExists, LimitExceeded, BadRequest, BudgetExceeded
        """
        description = Description(
            layers=layers,
            kv_heads=kv_heads,
            key_dim=key_dim,
            value_dim=key_dim if value_dim is None else value_dim,
            dtype=elements.named(dtype).name,
            sink=sink,
            lag=lag,
            keep_ratio=keep_ratio,
            value_weight=value_weight,
            uncompressed_layers=tuple(uncompressed_layers),
            capacity=capacity,
            fingerprint=fingerprint,
            shared=shared,
            disposable=disposable,
        )
        return self._attach(Verb.CREATE, string(name) + description.encoded())

    def open(self, name: str, write: bool = False, *, owner: int | None = None, fingerprint: str | None = None) -> Session:
        """Open a session, resuming it first if it was suspended.

        Args:
            write: take the writer's lease; there is one a session.
            fingerprint: if given, the session must have been created with the same.

        Raises:
            NotFound, Busy, Mismatch, NotPermitted, BudgetExceeded, Corrupt
        """
        check = fingerprint is not None
        body = whose(name, owner) + u8(write) + u8(check) + string(fingerprint or "")
        return self._attach(Verb.OPEN, body)

    def _attach(self, verb: Verb, payload: bytes) -> Session:
        body, descriptors = self._connection.exchange(verb, payload, descriptors=2)
        try:
            fields = Fields(body)
            attachment = Attachment.read(fields)
            fields.end()
            return Session(self._connection, attachment, slab=descriptors[0], control=descriptors[1])
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    # MARK: the daemon

    def status(self) -> dict[str, str]:
        """What the daemon says of itself, in its order."""
        return dict(self._connection.ask(Verb.STATUS, b"", lambda fields: fields.list(lambda f: (f.string(), f.string()))))

    def metrics(self) -> str:
        """The daemon's metrics as OpenMetrics text."""
        return self._connection.ask(Verb.METRICS, b"", Fields.long_string)

    def close(self) -> None:
        """Close the connection; the leases of its sessions end, and what was committed or published is kept."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "" if self._connection.is_open else ", closed"
        return f"<lagkv.Client of {self.daemon!r}, pid {self.daemon_pid}, at {self._connection.path}{state}>"
