"""Inlets: shared memory in which many tokens arrive at once, whole chunks at a time (``PROTOCOL.md``, section 3).

What is written there becomes the daemon's staged chunks as it is. Through the slab file the same tokens would be copied
twice more.
"""

from __future__ import annotations

import mmap
import os
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from . import errors
from .connection import Connection
from .shared import arrayed, mapped
from .wire import Description, Fields, InletGrant, Verb, u32, u64

#: Bytes from which on inlets pay: below, their messages and the pages they touch cost more than a second copy.
_LEAST = 1 << 20
#: Bytes of layers to fill before the daemon is told of them.
_LAYERS = 16 << 20
#: Inlets of a connection to keep mapped.
_KEPT = 64


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of one chunk in an inlet, and which tokens of the delivery go there."""

    tokens: slice
    #: [layers, heads, tokens, key_dim]
    keys: np.ndarray
    #: [layers, heads, tokens, value_dim]
    values: np.ndarray
    #: u32[tokens]
    ids: np.ndarray


def sealed_chunks(description: Description, tokens: int) -> int:
    return max(0, (tokens - description.sink) // description.lag - 1)


def deliver(
    connection: Connection,
    handle: int,
    description: Description,
    tokens: int,
    keys: np.ndarray,
    values: np.ndarray,
    ids: np.ndarray | None,
) -> int:
    """Put tokens that follow the first ``tokens`` ones of a session into inlets, as many as the daemon has room for.

    Returns:
        How many are to be committed as delivered; 0 where they are too few, or there is no room.
    """
    count, layers = keys.shape[2], description.layers
    bytes_of_layer = (keys.nbytes + values.nbytes) // layers
    seals = sealed_chunks(description, tokens + count) > sealed_chunks(description, tokens)
    if bytes_of_layer * layers < _LEAST or not seals:
        return 0
    chunks: list[Chunk] = []
    end = tokens
    while end < tokens + count:
        try:
            grant, file = _ask(connection, handle, end, tokens + count)
        except errors.LagKVError as error:
            if error.name != "noInlet":
                raise
            break
        if not end < grant.until <= description.capacity:
            raise errors.garbled("the end of an inlet", grant.until, f"above {end}")
        end = min(tokens + count, grant.until)
        chunks += _chunks(grant, file, description, tokens, end)
    if end == tokens:
        return 0
    step = max(1, _LAYERS // max(1, bytes_of_layer))
    for first in range(0, layers, step):
        some = slice(first, min(layers, first + step))
        for chunk in chunks:
            chunk.keys[some] = keys[some, :, chunk.tokens]
            chunk.values[some] = values[some, :, chunk.tokens]
            if first == 0:
                chunk.ids[:] = 0 if ids is None else ids[chunk.tokens]
        if some.stop < layers:
            connection.tell(Verb.DELIVER, u32(handle) + u64(end) + u32(some.stop))
    return end - tokens


def _ask(connection: Connection, handle: int, after: int, wanted: int) -> tuple[InletGrant, mmap.mmap]:
    body, (descriptor,) = connection.exchange(Verb.INLET, u32(handle) + u64(after) + u64(wanted), descriptors=1)
    try:
        fields = Fields(body)
        grant = InletGrant.read(fields)
        fields.end()
        return grant, _mapped(connection.inlets, grant, descriptor)
    finally:
        os.close(descriptor)


def _mapped(known: OrderedDict[int, mmap.mmap], grant: InletGrant, descriptor: int) -> mmap.mmap:
    """The same number is the same file: pages that are mapped once need not be again."""
    file = known.pop(grant.inlet, None)
    if file is None or len(file) != grant.bytes:
        file = mapped(descriptor, grant.bytes, protection=mmap.PROT_READ | mmap.PROT_WRITE)
    known[grant.inlet] = file
    if len(known) > _KEPT:
        known.popitem(last=False)
    return file


def _chunks(grant: InletGrant, file: mmap.mmap, description: Description, tokens: int, end: int) -> Iterator[Chunk]:
    """The chunks of an inlet, as far as positions ``tokens`` … ``end`` − 1 belong to them."""
    d, dtype = description, description.element.storage
    base = 0
    for number in range(grant.chunk, grant.chunk + grant.chunks):
        first = 0 if number == 0 else d.sink + number * d.lag
        n = d.sink + (number + 1) * d.lag - first
        start, stop = max(first, tokens), min(first + n, end)
        key, value = d.key_dim * dtype.itemsize, d.value_dim * dtype.itemsize
        layer = n * d.kv_heads * (key + value)
        own = slice(start - first, stop - first)

        def rows(offset: int, dim: int, row: int, n: int = n, layer: int = layer) -> np.ndarray:
            return arrayed(file, dtype, offset, (d.layers, d.kv_heads, n, dim), (layer, n * row, row, dtype.itemsize))

        if start < stop:
            ids = arrayed(file, np.dtype("<u4"), base + d.layers * layer, (n,), (4,))
            yield Chunk(
                slice(start - tokens, stop - tokens),
                rows(base, d.key_dim, key)[:, :, own],
                rows(base + n * d.kv_heads * key, d.value_dim, value)[:, :, own],
                ids[own],
            )
        base += d.layers * layer + 4 * n
