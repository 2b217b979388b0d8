"""The two shared files of an open session as numpy arrays: the slab file with the tokens, the control file with the
daemon's word on what lies where.

Both are sparse and mapped whole; an array keeps its mapping alive, and the last one to go unmaps it.

Order on the shared memory (``PROTOCOL.md``, section 3): on x86 loads stay in order, and so do stores; a Python
interpreter does not reorder what its bytecode does. Elsewhere ``fence`` stands between the loads of a reader, and writers
send a message for every commit instead of publishing.
"""

from __future__ import annotations

import itertools
import mmap
import os
import platform
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import errors
from .wire import Description, SharedLayout

#: Whether plain loads and stores keep their order, so that a count can be published without a message.
ORDERED = platform.machine().lower() in ("x86_64", "amd64")

_CONTROL_MAGIC = b"LAGKVCTL"
_CONTROL_VERSION = 1
_RESIDENT, _SUSPENDED, _DELETED = 1, 2, 3

# 8-byte words of the control page. Word 1 is the version (low half) and the state (high half).
_STATE, _GENERATION, _TOKENS, _SEALED, _DURABLE, _BOUNDARY, _GRANT = range(1, 8)

_barrier = threading.Lock()


def fence() -> None:
    """Keep the loads before this call before the loads after it.

    Each release of a lock is ordered before the next acquisition; one pair alone would let both sides slip in between.
    """
    if not ORDERED:
        with _barrier:
            pass
        with _barrier:
            pass


def mapped(descriptor: int, length: int, *, flags: int = mmap.MAP_SHARED, protection: int = mmap.PROT_READ) -> mmap.mmap:
    """Map a whole file. The descriptor stays the caller's.

    Raises:
        ProtocolError: the file is shorter than announced.
        OutOfResources: the kernel refused.
    """
    size = os.fstat(descriptor).st_size
    if size < length:
        raise errors.garbled("the size of a shared file", size, length)
    # Before 3.13 a mapping keeps a descriptor of its own until it goes.
    options = {"trackfd": False} if sys.version_info >= (3, 13) else {}
    try:
        return mmap.mmap(descriptor, length, flags, protection, **options)  # type: ignore[call-overload]
    except OSError as error:
        errors.refuse("outOfResources", "a mapping of shared memory", error, f"{length} bytes of address space")


def arrayed(buffer: mmap.mmap, dtype: np.dtype, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
    """An array over a mapping, bounds checked.

    Raises:
        ProtocolError: it would reach beyond the mapping.
    """
    try:
        return np.ndarray(shape, dtype, buffer, offset, strides)
    except (ValueError, TypeError, OverflowError) as error:
        raise errors.garbled("a layout", error, "arrays that lie inside their file") from error


@dataclass(frozen=True, slots=True)
class Arrangement:
    """Where the rows of the hot view are at one generation.

    Attributes:
        generation: even; the arrangement holds until it changes.
        tokens: the logical length at this generation.
        boundary: the least count whose commit needs a message.
        grant: the most tokens that the next commit may declare.
        rows: for each layer the rows from row 0 on at ``tokens``.
        recalled: for each layer the rows to the left of row 0.
        runs: neighbouring layers with as many rows: (first, end, rows), so that they are written at once.
    """

    generation: int
    tokens: int
    sealed_chunks: int
    boundary: int
    grant: int
    rows: list[int]
    recalled: list[int]
    runs: list[tuple[int, int, int]]

    def length(self, published: int) -> int:
        """The logical length now: what the writer published counts only where a commit needs no message."""
        return published if self.tokens <= published < self.boundary else self.tokens


def _runs(rows: list[int]) -> list[tuple[int, int, int]]:
    runs = []
    for count, layers in itertools.groupby(range(len(rows)), rows.__getitem__):
        members = list(layers)
        runs.append((members[0], members[-1] + 1, count))
    return runs


class ControlFile:
    """The daemon's own word: generation, counts, positions, summaries. Nobody but the daemon can write it."""

    __slots__ = ("_table", "highs", "lows", "positions", "words")

    def __init__(self, descriptor: int, layout: SharedLayout, description: Description) -> None:
        buffer = mapped(descriptor, layout.control_bytes)
        head = buffer[:12]
        if head[:8] != _CONTROL_MAGIC or int.from_bytes(head[8:], "little") != _CONTROL_VERSION:
            raise errors.garbled("the head of a control file", head, f"{_CONTROL_MAGIC!r}, version {_CONTROL_VERSION}")
        layers, heads, dim = description.layers, description.kv_heads, description.key_dim
        dtype = description.element.storage
        self.words = memoryview(buffer)[:64].cast("Q")
        self._table = arrayed(buffer, np.dtype("<u8"), layout.layer_table_offset, (layers, 2), (16, 8))
        #: i32[layers, heads, recallRows + rows]
        self.positions = arrayed(
            buffer,
            np.dtype("<i4"),
            layout.positions_offset,
            (layers, heads, layout.recall_rows + layout.rows),
            (layout.positions_layer_stride, layout.positions_head_stride, 4),
        )
        chunk = layout.summaries_chunk_stride
        shape = (layers, layout.summaries_layer_stride // chunk if chunk else 0, heads, dim)
        strides = (layout.summaries_layer_stride, chunk, dim * dtype.itemsize, dtype.itemsize)
        #: [layers, chunks, heads, keyDim]: minimum and maximum of the keys of each chunk; only sealed chunks have any.
        self.lows = arrayed(buffer, dtype, layout.summaries_offset, shape, strides)
        self.highs = arrayed(buffer, dtype, layout.summaries_offset + heads * dim * dtype.itemsize, shape, strides)

    @property
    def generation(self) -> int:
        return self.words[_GENERATION]

    @property
    def durable_tokens(self) -> int:
        return self.words[_DURABLE]

    def arrangement(self, alive: Callable[[], None]) -> Arrangement:
        """The arrangement now. Waits while the daemon changes the layout.

        Args:
            alive: raises if the daemon is gone, which would leave a reader waiting for ever.

        Raises:
            SessionGone: the session was suspended or deleted.
        """
        words = self.words
        for attempt in itertools.count(1):
            state = words[_STATE] >> 32
            if state != _RESIDENT:
                seen = {_SUSPENDED: "suspended", _DELETED: "deleted"}.get(state, f"state {state}")
                errors.refuse("badHandle", "the session is no longer in memory", seen, "open it again")
            generation = words[_GENERATION]
            fence()
            if generation % 2 == 0:
                tokens, sealed, boundary, grant = words[_TOKENS], words[_SEALED], words[_BOUNDARY], words[_GRANT]
                rows, recalled = self._table.T.tolist()
                fence()
                if words[_GENERATION] == generation:
                    return Arrangement(generation, tokens, sealed, boundary, grant, rows, recalled, _runs(rows))
            if attempt % 256 == 0:
                alive()
            time.sleep(0 if attempt < 256 else 0.0005)
        raise AssertionError("itertools.count ends never")


class SlabFile:
    """The tokens themselves, and the writer's count of them."""

    __slots__ = ("ids", "keys", "origin", "published", "values")

    def __init__(self, descriptor: int, layout: SharedLayout, description: Description, *, writer: bool) -> None:
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writer else 0)
        buffer = mapped(descriptor, layout.slab_bytes, protection=protection)
        dtype = description.element.storage
        #: One word: the writer's count of tokens.
        self.published = memoryview(buffer)[:8].cast("Q")
        #: u32[capacity]
        self.ids = arrayed(buffer, np.dtype("<u4"), layout.ids_offset, (description.capacity,), (4,))
        #: Where row 0 is on the arrays' axis of rows; recalled rows lie before it.
        self.origin = layout.recall_rows

        def rows(offset: int, base: int, head_stride: int, dim: int) -> np.ndarray:
            row = dim * dtype.itemsize
            return arrayed(
                buffer,
                dtype,
                layout.layers_offset + offset + base - layout.recall_rows * row,
                (description.layers, description.kv_heads, layout.recall_rows + layout.rows, dim),
                (layout.layer_stride, head_stride, row, dtype.itemsize),
            )

        #: [layers, heads, recallRows + rows, dim]
        self.keys = rows(0, layout.key_base, layout.key_head_stride, description.key_dim)
        self.values = rows(layout.values_offset, layout.value_base, layout.value_head_stride, description.value_dim)
