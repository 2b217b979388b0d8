"""Values ⇄ bytes, as ``PROTOCOL.md`` has them. No input or output happens here.

All integers are little-endian and unsigned, nothing is padded. A reply must be exactly its fields; anything else raises
``ProtocolError``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import TypeVar

import numpy as np

from . import elements, errors

MAGIC = 0x564B474C
VERSION = 1
#: Bytes of one frame's payload, at most.
FRAME_BYTES = 1 << 20
#: length, verb, flags, request
HEADER = struct.Struct("<IHHQ")
REPLY = 1
ERROR = 2
#: An owner: whoever asks.
MYSELF = 0xFFFF_FFFF
#: A count of tokens for fork: all of them.
ALL_TOKENS = (1 << 64) - 1

T = TypeVar("T")


class Verb(IntEnum):
    """What a request asks."""

    HELLO = 1
    CREATE = 2
    OPEN = 3
    CLOSE = 4
    COMMIT = 5
    SYNC = 6
    FULL = 7
    RECALL = 8
    RELEASE = 9
    TRUNCATE = 10
    FORK = 11
    RENAME = 12
    DELETE = 13
    SUSPEND = 14
    RESUME = 15
    SHOW = 16
    LIST = 17
    STATUS = 18
    METRICS = 19
    INLET = 20
    DELIVER = 21


# MARK: fields to bytes


def u8(value: int) -> bytes:
    return _integer(value, 1)


def u16(value: int) -> bytes:
    return _integer(value, 2)


def u32(value: int) -> bytes:
    return _integer(value, 4)


def u64(value: int) -> bytes:
    return _integer(value, 8)


def f64(value: float) -> bytes:
    return struct.pack("<d", value)


def string(text: str) -> bytes:
    data = text.encode()
    if len(data) > 0xFFFF:
        errors.refuse("limitExceeded", "bytes of a string", len(data), "at most 65535")
    return u16(len(data)) + data


def _integer(value: int, width: int) -> bytes:
    try:
        return int(value).to_bytes(width, "little")
    except OverflowError:
        errors.refuse("limitExceeded", f"a field of {8 * width} bits", value, f"0 to {(1 << 8 * width) - 1}")


def u32s(values: Iterable[int]) -> bytes:
    """A list of u32: its count, then the values."""
    listed = list(values)
    return u32(len(listed)) + b"".join(map(u32, listed))


def choices(chosen: Iterable[tuple[int, np.ndarray]]) -> bytes:
    """What ``recall`` sends: for each layer the chunks of each head, ``[heads, m]``, m at least 1."""
    listed = list(chosen)
    parts = [u32(len(listed))]
    for layer, chunks in listed:
        if chunks.min() < 0 or chunks.max() > 0xFFFF_FFFF:
            errors.refuse("notSealed", "a chunk number", f"{chunks.min()} to {chunks.max()}", "0 or more")
        parts += [u32(layer), *map(u32, chunks.shape), chunks.astype("<u4").tobytes()]
    return b"".join(parts)


class Fields:
    """Reads the fields of one payload, in order."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes | bytearray) -> None:
        self._data = data
        self._at = 0

    def _take(self, count: int) -> int:
        at = self._at
        if count > len(self._data) - at:
            raise errors.garbled("a payload that ends early", f"{len(self._data)} bytes", f"at least {at + count}")
        self._at = at + count
        return at

    def integer(self, width: int) -> int:
        at = self._take(width)
        return int.from_bytes(self._data[at : at + width], "little")

    def u8(self) -> int:
        return self.integer(1)

    def u16(self) -> int:
        return self.integer(2)

    def u32(self) -> int:
        return self.integer(4)

    def u64(self) -> int:
        return self.integer(8)

    def u64s(self, count: int) -> tuple[int, ...]:
        return struct.unpack_from(f"<{count}Q", self._data, self._take(8 * count))

    def f64(self) -> float:
        return struct.unpack_from("<d", self._data, self._take(8))[0]

    def bool(self) -> bool:
        value = self.u8()
        if value > 1:
            raise errors.garbled("a bool", value, "0 or 1")
        return value == 1

    def _text(self, count: int) -> str:
        at = self._take(count)
        try:
            return bytes(self._data[at : at + count]).decode()
        except UnicodeDecodeError as error:
            raise errors.garbled("a string", error, "UTF-8") from error

    def string(self) -> str:
        return self._text(self.u16())

    def long_string(self) -> str:
        return self._text(self.u32())

    def list(self, item: Callable[[Fields], T]) -> list[T]:
        return [item(self) for _ in range(self.u32())]

    def end(self) -> None:
        """Raise unless every byte was read."""
        if self._at != len(self._data):
            raise errors.garbled("a payload with bytes to spare", f"{len(self._data)} bytes", f"{self._at}")


# MARK: common values


@dataclass(frozen=True, slots=True)
class Description:
    """What is fixed when a session is created."""

    layers: int
    kv_heads: int
    key_dim: int
    value_dim: int
    dtype: str
    sink: int
    lag: int
    keep_ratio: float
    value_weight: float
    uncompressed_layers: tuple[int, ...]
    capacity: int
    fingerprint: str
    shared: bool
    disposable: bool

    def encoded(self) -> bytes:
        return b"".join(
            [
                *map(u32, (self.layers, self.kv_heads, self.key_dim, self.value_dim)),
                u8(elements.named(self.dtype).code),
                *map(u32, (self.sink, self.lag)),
                *map(f64, (self.keep_ratio, self.value_weight)),
                u32s(self.uncompressed_layers),
                u64(self.capacity),
                string(self.fingerprint),
                u32(self.shared | self.disposable << 1),
            ]
        )

    @classmethod
    def read(cls, fields: Fields) -> Description:
        layers, heads, key_dim, value_dim = (fields.u32() for _ in range(4))
        code = fields.u8()
        if code not in elements.BY_CODE:
            raise errors.garbled("an element type", code, "1 to 5")
        sink, lag = fields.u32(), fields.u32()
        keep_ratio, value_weight = fields.f64(), fields.f64()
        uncompressed = tuple(fields.list(Fields.u32))
        capacity, fingerprint, flags = fields.u64(), fields.string(), fields.u32()
        return cls(
            layers, heads, key_dim, value_dim, elements.BY_CODE[code].name, sink, lag, keep_ratio, value_weight,
            uncompressed, capacity, fingerprint, bool(flags & 1), bool(flags & 2),
        )  # fmt: skip

    @property
    def element(self) -> elements.Element:
        """The element type: its numpy dtype is ``element.storage``."""
        return elements.BY_NAME[self.dtype]

    @property
    def token_bytes(self) -> int:
        """Bytes of one token over all layers and heads."""
        return self.layers * self.kv_heads * (self.key_dim + self.value_dim) * self.element.storage.itemsize


@dataclass(frozen=True, slots=True)
class SessionRow:
    """What the daemon knows of a session at one moment. Bytes unless said.

    Attributes:
        state: "resident" or "suspended".
        tokens: logical length, as of the last commit.
        durable_tokens: tokens that survive a kill of the daemon now.
        resident_bytes: shared memory charged to the budget.
        disk_bytes: its files; those shared with forks count in each.
        writer: process id of the lease's holder, 0 for none.
        readers: connections that hold it open without the lease.
        fault: empty, or why its chunks are not becoming durable.
    """

    name: str
    owner: int
    state: str
    description: Description
    tokens: int
    sealed_chunks: int
    durable_tokens: int
    resident_bytes: int
    disk_bytes: int
    writer: int
    readers: int
    last_used: datetime
    created: datetime
    fault: str

    @classmethod
    def read(cls, fields: Fields) -> SessionRow:
        name, owner, state = fields.string(), fields.u32(), fields.u8()
        if state not in (1, 2):
            raise errors.garbled("a session's state", state, "1 or 2")
        description = Description.read(fields)
        tokens, sealed, durable, resident, disk = fields.u64s(5)
        writer, readers = fields.u32(), fields.u32()
        used, created = (_moment(milliseconds) for milliseconds in fields.u64s(2))
        return cls(
            name, owner, "resident" if state == 1 else "suspended", description, tokens, sealed, durable, resident,
            disk, writer, readers, used, created, fields.string(),
        )  # fmt: skip

    def __repr__(self) -> str:
        d = self.description
        fault = f", fault: {self.fault}" if self.fault else ""
        return (
            f"<{self.name}: {self.state}, {self.tokens:,} of {d.capacity:,} tokens, "
            f"{self.resident_bytes / 1e6:,.1f} MB in memory, {self.disk_bytes / 1e6:,.1f} MB on disk, "
            f"{d.layers}×{d.kv_heads}×({d.key_dim}+{d.value_dim}) {d.dtype}, keep {d.keep_ratio:g}{fault}>"
        )


def _moment(milliseconds: int) -> datetime:
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, ValueError, OSError) as error:
        raise errors.garbled("a time", milliseconds, "milliseconds since 1970") from error


@dataclass(frozen=True, slots=True)
class Standing:
    """What a request that changes a session answers."""

    tokens: int
    sealed_chunks: int
    durable_tokens: int
    generation: int

    @classmethod
    def read(cls, fields: Fields) -> Standing:
        return cls(*fields.u64s(4))


@dataclass(frozen=True, slots=True)
class SharedLayout:
    """Where things lie in the two shared files, in bytes unless said; ``PROTOCOL.md`` tells each."""

    slab_bytes: int
    control_bytes: int
    ids_offset: int
    layers_offset: int
    layer_stride: int
    key_head_stride: int
    value_head_stride: int
    values_offset: int
    key_base: int
    value_base: int
    recall_rows: int
    rows: int
    layer_table_offset: int
    positions_offset: int
    positions_layer_stride: int
    positions_head_stride: int
    summaries_offset: int
    summaries_layer_stride: int
    summaries_chunk_stride: int

    @classmethod
    def read(cls, fields: Fields) -> SharedLayout:
        return cls(*fields.u64s(19))


@dataclass(frozen=True, slots=True)
class Attachment:
    """What ``create`` and ``open`` answer, besides the two descriptors."""

    handle: int
    writer: bool
    row: SessionRow
    layout: SharedLayout
    generation: int

    @classmethod
    def read(cls, fields: Fields) -> Attachment:
        return cls(fields.u32(), fields.bool(), SessionRow.read(fields), SharedLayout.read(fields), fields.u64())


@dataclass(frozen=True, slots=True)
class InletGrant:
    """An inlet: its number, its file's bytes, its first chunk, how many it holds, and which positions may be written."""

    inlet: int
    bytes: int
    chunk: int
    chunks: int
    begin: int
    until: int

    @classmethod
    def read(cls, fields: Fields) -> InletGrant:
        return cls(fields.u32(), fields.u64(), fields.u64(), fields.u32(), fields.u64(), fields.u64())


@dataclass(frozen=True, slots=True)
class Full:
    """Where a layer's keys, values and ids lie in the file that ``full`` hands over; bytes but for ``tokens``."""

    tokens: int
    keys_offset: int
    key_head_stride: int
    values_offset: int
    value_head_stride: int
    ids_offset: int
    bytes: int

    @classmethod
    def read(cls, fields: Fields) -> Full:
        return cls(*fields.u64s(7))
