"""The connection to a daemon, and what can be asked without an open session."""

from __future__ import annotations

import os
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from . import elements, errors
from .connection import Connection
from .session import Session
from .wire import (
    ALL_TOKENS,
    MAGIC,
    MYSELF,
    VERSION,
    Attachment,
    Description,
    Fields,
    SessionRow,
    Verb,
    string,
    u8,
    u16,
    u32,
    u64,
)


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


class Client:
    """A connection to a daemon. May be used from several threads; requests take turns.

    Closing it ends all its sessions' leases. ``with lagkv.connect() as client`` closes it at the end.

    Methods that take ``owner`` mean the caller's own session without it, else that of the user with that id.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
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
        body = _whose(name, owner) + u8(write) + u8(check) + string(fingerprint or "")
        return self._attach(Verb.OPEN, body)

    def _attach(self, verb: Verb, payload: bytes) -> Session:
        body, descriptors = self._connection.exchange(verb, payload, descriptors=2)
        try:
            fields = Fields(body)
            attachment = Attachment.read(fields)
            fields.end()
            return Session(self, attachment, slab=descriptors[0], control=descriptors[1])
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    # MARK: sessions by name

    def sessions(self, everybody: bool = False) -> list[SessionRow]:
        """All sessions of this user, or all that this user may see, ordered by owner and name."""
        rows: list[SessionRow] = []
        more = True
        while more:
            after, name = (rows[-1].owner, rows[-1].name) if rows else (0, "")
            body = u8(everybody) + u32(after) + string(name)
            page, more = self._connection.ask(Verb.LIST, body, lambda fields: (fields.list(SessionRow.read), fields.bool()))
            if more and not page:
                raise errors.garbled("a page of sessions", "no rows, but more to come", "rows")
            rows += page
        return rows

    def show(self, name: str, *, owner: int | None = None) -> SessionRow:
        """What the daemon knows of one session now."""
        return self._connection.ask(Verb.SHOW, _whose(name, owner), SessionRow.read)

    def fork(self, name: str, new: str, tokens: int | None = None, *, owner: int | None = None) -> SessionRow:
        """Make a session ``new`` of this user's with the first ``tokens`` tokens (all without) of another. The files of
        sealed chunks are shared, so this costs no more than the window. The new one is durable, and suspended."""
        body = _whose(name, owner) + string(new) + u64(ALL_TOKENS if tokens is None else tokens)
        return self._connection.ask(Verb.FORK, body, SessionRow.read)

    def rename(self, name: str, new: str) -> None:
        """Give one of this user's sessions another name."""
        self._connection.tell(Verb.RENAME, string(name) + string(new))

    def delete(self, name: str, *, owner: int | None = None) -> None:
        """Delete a session, in memory and on disk. Files that forks share stay theirs."""
        self._connection.tell(Verb.DELETE, _whose(name, owner))

    def suspend(self, name: str, *, owner: int | None = None) -> SessionRow:
        """Write what is not yet on disk and give the session's memory back. Handles of it become invalid.

        Raises:
            Busy: another connection holds the writer's lease.
        """
        return self._connection.ask(Verb.SUSPEND, _whose(name, owner), SessionRow.read)

    def resume(self, name: str, *, owner: int | None = None) -> SessionRow:
        """Bring a session's hot view back into memory ahead of its opening."""
        return self._connection.ask(Verb.RESUME, _whose(name, owner), SessionRow.read)

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


def _whose(name: str, owner: int | None) -> bytes:
    return string(name) + u32(MYSELF if owner is None else owner)
