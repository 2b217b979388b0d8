"""What can be asked of sessions by their names, open or not."""

from __future__ import annotations

from . import errors
from .connection import Connection
from .wire import ALL_TOKENS, MYSELF, Fields, SessionRow, Verb, string, u8, u32, u64


class Directory:
    """The sessions that a daemon has."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

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
        return self._connection.ask(Verb.SHOW, whose(name, owner), SessionRow.read)

    def fork(self, name: str, new: str, tokens: int | None = None, *, owner: int | None = None) -> SessionRow:
        """Make a session ``new`` of this user's with the first ``tokens`` tokens (all without) of another. The files of
        sealed chunks are shared, so this costs no more than the window. The new one is durable, and suspended."""
        body = whose(name, owner) + string(new) + u64(ALL_TOKENS if tokens is None else tokens)
        return self._connection.ask(Verb.FORK, body, SessionRow.read)

    def rename(self, name: str, new: str) -> None:
        """Give one of this user's sessions another name."""
        self._connection.tell(Verb.RENAME, string(name) + string(new))

    def delete(self, name: str, *, owner: int | None = None) -> None:
        """Delete a session, in memory and on disk. Files that forks share stay theirs."""
        self._connection.tell(Verb.DELETE, whose(name, owner))

    def suspend(self, name: str, *, owner: int | None = None) -> SessionRow:
        """Write what is not yet on disk and give the session's memory back. Handles of it become invalid.

        Raises:
            Busy: another connection holds the writer's lease.
        """
        return self._connection.ask(Verb.SUSPEND, whose(name, owner), SessionRow.read)

    def resume(self, name: str, *, owner: int | None = None) -> SessionRow:
        """Bring a session's hot view back into memory ahead of its opening."""
        return self._connection.ask(Verb.RESUME, whose(name, owner), SessionRow.read)


def whose(name: str, owner: int | None) -> bytes:
    """How a request names a session: the caller's own, or that of the user with the id ``owner``."""
    return string(name) + u32(MYSELF if owner is None else owner)
