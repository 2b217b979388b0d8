"""What can go wrong, as exceptions. Every one carries the daemon's code, so programs can tell them apart without
reading text; the classes group the codes by what a caller can do about them.

``LagKVError``
├── ``ProtocolError``      the two sides do not understand each other: a bug, or versions that do not meet
├── ``BadRequest``         the request makes no sense for this session
├── ``LimitExceeded``      a named limit, the capacity or the grant is exceeded
├── ``NotFound``           no such session that this user may see
├── ``AlreadyExists``      the name is taken
├── ``Mismatch``           the session's fingerprint is not the one that was expected
├── ``NotPermitted``       not this user's to change, or no writer's lease
├── ``Busy``               another connection holds the lease
├── ``SessionGone``        suspended, deleted or closed meanwhile: open it again
├── ``BudgetExceeded``     the memory or the disk budget is full
├── ``DiskError``          the disk refuses reads or writes
│   └── ``Corrupt``        what it returned fails its checks
├── ``OutOfResources``     descriptors, mappings or queue entries ran out
└── ``ConnectionLost``     no daemon, or it went away: connect again
"""

from __future__ import annotations

from typing import NoReturn


class LagKVError(Exception):
    """Base of all errors of this package.

    Attributes:
        code: the number in the protocol's table; 0 for what the client noticed by itself.
        name: the code's name, as in listings and metrics.
        message: what was refused.
        seen: the offending value, or empty.
        expected: what would have been accepted or what to do, or empty.
    """

    def __init__(self, code: int, name: str, message: str, seen: str = "", expected: str = "") -> None:
        super().__init__(code, name, message, seen, expected)
        self.code = code
        self.name = name
        self.message = message
        self.seen = seen
        self.expected = expected

    def __str__(self) -> str:
        text = f"{self.name}: {self.message}"
        if self.seen:
            text += f"; seen: {self.seen}"
        if self.expected:
            text += f"; expected: {self.expected}"
        return text


class ProtocolError(LagKVError):
    """The two sides do not understand each other."""


class BadRequest(LagKVError):
    """A value makes no sense beside another, or for this session as it is now."""


class LimitExceeded(LagKVError):
    """A named limit, the session's capacity or the daemon's grant is exceeded; ``expected`` gives it."""


class NotFound(LagKVError):
    """No such session that this user may see."""


class AlreadyExists(LagKVError):
    """The name is taken."""


class Mismatch(LagKVError):
    """The session's fingerprint is not the expected one: its numbers mean something else."""


class NotPermitted(LagKVError):
    """The session may be read but not changed: by this user, or without the writer's lease."""


class Busy(LagKVError):
    """Another connection holds the writer's lease."""


class SessionGone(LagKVError):
    """The session was closed, suspended or deleted since it was opened: open it again."""


class BudgetExceeded(LagKVError):
    """The memory or the disk budget is full, and nothing can be moved out of the way."""


class DiskError(LagKVError):
    """The disk refuses reads or writes; ``seen`` gives its error."""


class Corrupt(DiskError):
    """A checksum, an identity or a length on disk is wrong; ``seen`` names the file."""


class OutOfResources(LagKVError):
    """Descriptors, mappings or queue entries ran out."""


class ConnectionLost(LagKVError):
    """There is no daemon, it is stopping, or the connection ended: connect again."""


#: The protocol's table of errors: code → (name, class).
CODES: dict[int, tuple[str, type[LagKVError]]] = {
    1: ("badFrame", ProtocolError),
    2: ("badVersion", ProtocolError),
    3: ("unknownVerb", ProtocolError),
    4: ("badRequest", BadRequest),
    5: ("limitExceeded", LimitExceeded),
    6: ("badName", BadRequest),
    7: ("notFound", NotFound),
    8: ("alreadyExists", AlreadyExists),
    9: ("mismatch", Mismatch),
    10: ("notPermitted", NotPermitted),
    11: ("writerBusy", Busy),
    12: ("notWriter", NotPermitted),
    13: ("badHandle", SessionGone),
    14: ("badTokenCount", BadRequest),
    15: ("beyondCapacity", LimitExceeded),
    16: ("beyondGrant", LimitExceeded),
    17: ("notSealed", BadRequest),
    18: ("alreadyRecalled", BadRequest),
    19: ("nothingEvicted", BadRequest),
    20: ("sessionBusy", Busy),
    21: ("memoryBudget", BudgetExceeded),
    22: ("diskBudget", BudgetExceeded),
    23: ("diskFailed", DiskError),
    24: ("corrupt", Corrupt),
    25: ("shuttingDown", ConnectionLost),
    26: ("outOfResources", OutOfResources),
    27: ("interrupted", ConnectionLost),
    28: ("noInlet", BudgetExceeded),
}

_NUMBERS = {name: code for code, (name, _) in CODES.items()}


def from_code(code: int, message: str, seen: str = "", expected: str = "") -> LagKVError:
    """The exception for a code of the daemon's; a code of a later version becomes a plain ``LagKVError``."""
    name, kind = CODES.get(code, (f"error{code}", LagKVError))
    return kind(code, name, message, seen, expected)


def refuse(name: str, message: str, seen: object = "", expected: object = "") -> NoReturn:
    """Raise what the daemon would have answered, where the client can tell by itself before anything is sent."""
    raise from_code(_NUMBERS[name], message, str(seen), str(expected))


def lost(message: str, seen: object = "", expected: object = "") -> ConnectionLost:
    """The exception for a connection that failed on this side."""
    return ConnectionLost(0, "connectionLost", message, str(seen), str(expected))


def garbled(message: str, seen: object = "", expected: object = "") -> ProtocolError:
    """The exception for a daemon that broke the protocol."""
    return ProtocolError(0, "badReply", message, str(seen), str(expected))
