"""One open session: appending, viewing, recalling, rewinding."""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from . import elements, errors, inlet
from .connection import Connection
from .directory import Directory
from .shared import ORDERED, Arrangement, ControlFile, SlabFile, arrayed, mapped
from .view import View
from .wire import Attachment, Description, Fields, Full, SessionRow, Standing, Verb, choices, u8, u32, u64

_DELIVERED, _DURABLE = 1, 2


class Session:
    """An open session, as a writer (one at a time) or a reader (many). Made by ``Client.create`` and ``Client.open``.

    Two ways to write. ``append`` takes arrays and copies each byte once, into shared memory. An engine that computes in
    place asks for ``window`` arrays, writes the next tokens' keys and values there, and calls ``commit``; a commit that
    completes no chunk costs no system call.

    The requests of one session belong in one thread at a time; reading arrays may go on in others.
    """

    def __init__(self, connection: Connection, attachment: Attachment, slab: int, control: int) -> None:
        """Map the two descriptors; they stay the caller's to close."""
        row = attachment.row
        self._connection = connection
        self._directory = Directory(connection)
        self._handle = attachment.handle
        self._open = True
        #: The name it was opened by.
        self.name = row.name
        #: The user id of its owner.
        self.owner = row.owner
        #: Whether this is the writer's lease.
        self.writer = attachment.writer
        #: Geometry, policy, capacity, fingerprint: what never changes.
        self.description: Description = row.description
        self._element = row.description.element
        self._control = ControlFile(control, attachment.layout, row.description)
        self._slab = SlabFile(slab, attachment.layout, row.description, writer=attachment.writer)
        # The same memory without the right to write: what is committed is nobody's to change.
        self._keys, self._values, self._ids = (_read_only(a) for a in (self._slab.keys, self._slab.values, self._slab.ids))
        self._arrangement = self._control.arrangement(self._connection.check)
        self._tokens = self._arrangement.length(self._slab.published[0])

    # MARK: what is known

    @property
    def tokens(self) -> int:
        """The logical length: tokens committed or published so far."""
        if self.writer and self._open:
            return self._tokens
        return self._length(self._arranged())

    @property
    def sealed_chunks(self) -> int:
        """Chunks of which only the kept part is in memory."""
        return self._arranged().sealed_chunks

    @property
    def durable_tokens(self) -> int:
        """The first so many tokens survive a kill of the daemon now. One load."""
        return self._shared().durable_tokens

    @property
    def generation(self) -> int:
        """Changes whenever rows move; odd while they do. One load."""
        return self._shared().generation

    @property
    def ids(self) -> np.ndarray:
        """uint32 [tokens]: the token ids that were stored with the tokens, 0 where none were. Read-only, no copy."""
        return self._ids[: self.tokens]

    @property
    def grant(self) -> int:
        """The most tokens that the next commit may declare."""
        return self._arranged().grant

    def view(self, layer: int) -> View:
        """The hot view of one layer, without a copy: read-only arrays over the shared memory.

        It holds while its ``valid`` is true. For the writer that is until its next commit that seals, recall, release or
        truncate; a reader checks after reading, or calls ``read``.

        Raises:
            SessionGone: the session was suspended, deleted or closed.
        """
        while True:
            rows, tokens, generation = self._extent(layer)
            view = View(
                self._keys[layer, :, rows],
                self._values[layer, :, rows],
                self._control.positions[layer, :, rows],
                tokens,
                generation,
                self._control,
            )
            if view.valid:
                return view

    def read(self, layer: int) -> View:
        """A copy of the hot view of one layer that is right as a whole, however busy the writer is."""
        while True:
            view = self.view(layer)
            copy = view.copy()
            if view.valid:
                return copy

    def full(self, layer: int, *, again: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Every token of one layer in order, bit for bit as appended: keys [heads, tokens, key_dim] and values
        [heads, tokens, value_dim].

        The arrays lie in a file of their own that the daemon filled from memory and disk; they are the caller's to keep
        and to write to. One request; its cost is reading and decoding what is not in memory.
        """
        self._layer(layer)
        body, (descriptor,) = self._connection.exchange(Verb.FULL, self._handled() + u32(layer) + bytes([again]), descriptors=1)
        try:
            fields = Fields(body)
            full = Full.read(fields)
            fields.end()
            return self._full_arrays(full, descriptor, shared=again)
        finally:
            os.close(descriptor)

    def _full_arrays(self, full: Full, descriptor: int, *, shared: bool) -> tuple[np.ndarray, np.ndarray]:
        d, dtype = self.description, self._element.storage
        if full.tokens == 0:
            return np.empty((d.kv_heads, 0, d.key_dim), dtype), np.empty((d.kv_heads, 0, d.value_dim), dtype)
        # Private: ours to scribble on, whatever seals the file has.
        buffer = mapped(descriptor, full.bytes, flags=mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE, protection=mmap.PROT_READ | mmap.PROT_WRITE)

        def rows(offset: int, head_stride: int, dim: int) -> np.ndarray:
            shape = (d.kv_heads, full.tokens, dim)
            return arrayed(buffer, dtype, offset, shape, (head_stride, dim * dtype.itemsize, dtype.itemsize))

        keys = rows(full.keys_offset, full.key_head_stride, d.key_dim)
        return keys, rows(full.values_offset, full.value_head_stride, d.value_dim)

    def summaries(self, layer: int) -> tuple[np.ndarray, np.ndarray]:
        """``lo`` and ``hi``, [chunks, heads, key_dim] each: minimum and maximum of each key channel over the finite
        values of each sealed chunk. Read-only, no copy, no request.

        ``Σ_c max(q[c]·lo[c], q[c]·hi[c])`` bounds the logit of a query with any key of the chunk.
        """
        self._layer(layer)
        chunks = self._arranged().sealed_chunks
        return self._control.lows[layer, :chunks], self._control.highs[layer, :chunks]

    # MARK: writing

    def append(self, k: ArrayLike, v: ArrayLike, ids: ArrayLike | None = None) -> None:
        """Append any number of tokens, 0 included.

        Each byte is copied once, into shared memory: few tokens into the window, many into inlets, which the daemon scores
        while the next layers are copied. What there is room for at a time is committed as one piece, so if a later piece is
        refused (a full budget, say), the earlier ones are kept: ``tokens`` tells.

        Args:
            k: [layers, kv_heads, tokens, key_dim] of the session's dtype, or its bits as unsigned integers; any strides.
            v: [layers, kv_heads, tokens, value_dim], likewise.
            ids: [tokens] token ids; without them 0 is stored.

        Raises:
            TypeError, ValueError: arrays of another dtype or shape; nothing was appended.
            LimitExceeded: more tokens than the capacity; nothing was appended.
        """
        d = self.description
        keys, values = self._checked("k", k, d.key_dim), self._checked("v", v, d.value_dim)
        count = keys.shape[2]
        if values.shape[2] != count:
            raise ValueError(f"k has {count} tokens, v has {values.shape[2]}")
        tokens = None if ids is None else _checked_ids(ids, count)
        self._need_lease()
        if self._tokens + count > d.capacity:
            errors.refuse("beyondCapacity", "tokens of the session", self._tokens + count, f"at most {d.capacity}")
        while count:
            done = inlet.deliver(self._connection, self._handle, d, self._tokens, keys, values, tokens)
            if done:
                self._change(Verb.COMMIT, u64(self._tokens + done) + u32(_DELIVERED))
            else:
                done = min(count, self._room())
                self._write(keys[:, :, :done], values[:, :, :done], None if tokens is None else tokens[:done])
                self.commit(self._tokens + done)
            keys, values, count = keys[:, :, done:], values[:, :, done:], count - done
            tokens = None if tokens is None else tokens[done:]

    def window(self, layer: int, tokens: int) -> tuple[np.ndarray, np.ndarray]:
        """Where the next ``tokens`` tokens of one layer go: writable keys [heads, tokens, key_dim] and values
        [heads, tokens, value_dim] in the shared memory itself. No request.

        Fill them for every layer, then ``commit``. They are void after the next request that seals.

        Raises:
            LimitExceeded: more tokens than the capacity, or than the daemon grants at a time.
        """
        rows = self._next_rows(layer, tokens)
        return self._slab.keys[layer, :, rows], self._slab.values[layer, :, rows]

    def window_ids(self, tokens: int) -> np.ndarray:
        """Where the ids of the next ``tokens`` tokens go: writable uint32 [tokens]."""
        self._next_rows(0, tokens)
        return self._slab.ids[self._tokens : self._tokens + tokens]

    def slab(self, layer: int) -> tuple[np.ndarray, np.ndarray]:
        """All rows of one layer, used or not: keys [heads, rows, key_dim] and values [heads, rows, value_dim], writable
        with the lease. For an engine that makes one tensor a layer and slices it by ``extent`` at every step.

        The arrays stay the same as long as the session is open. Their size is virtual: only rows in use take memory, and
        touching others takes more.
        """
        self._layer(layer)
        self._shared()
        return self._slab.keys[layer], self._slab.values[layer]

    def extent(self, layer: int) -> slice:
        """The rows of ``slab`` that are the hot view now. The next tokens go behind its ``stop``."""
        return self._extent(layer)[0]

    def extents(self) -> list[slice]:
        """``extent`` of every layer, for a step over all of them."""
        arrangement, tokens = self._now()
        return [self._rows(arrangement, layer, tokens) for layer in range(self.description.layers)]

    def commit(self, tokens: int, *, durable: bool = False) -> None:
        """Declare that the session now has ``tokens`` tokens, all of them written in their windows.

        Without a message (one store, no system call) unless a chunk is completed; then the daemon seals it, and rows
        move: take new windows and views.

        Args:
            durable: return when every sealed chunk is on disk.
        """
        arrangement = self._arrangement
        if (
            self._tokens <= tokens < arrangement.boundary
            and ORDERED
            and not durable
            and self.writer
            and self._shared().generation == arrangement.generation
        ):
            self._slab.published[0] = tokens
            self._tokens = tokens
            return
        self._change(Verb.COMMIT, u64(tokens) + u32(_DURABLE * durable))

    def sync(self, window: bool = False) -> int:
        """Wait until every sealed chunk is on disk, with ``window`` the unsealed tokens as well.

        Returns:
            The tokens that now survive a kill of the daemon.
        """
        body = self._handled() + u8(window)
        return self._connection.ask(Verb.SYNC, body, Standing.read).durable_tokens

    def recall(self, layer: int, chunks: ArrayLike) -> None:
        """Bring evicted tokens of chosen chunks back into the view of one layer, until ``release``.

        Args:
            chunks: [heads, m] sealed chunk numbers; each head chooses its own m, each once.
        """
        self.recall_layers({layer: chunks})

    def recall_layers(self, chosen: Mapping[int, ArrayLike]) -> None:
        """``recall`` for several layers in one request: layer → [heads, m] chunk numbers."""
        listed = []
        for layer, chunks in chosen.items():
            self._layer(layer)
            array = np.asarray(chunks)
            if array.ndim != 2 or len(array) != self.description.kv_heads or (array.size and array.dtype.kind not in "iu"):
                raise ValueError(
                    f"chunks of layer {layer}: {array.dtype.name} {list(array.shape)}; "
                    f"expected integers [{self.description.kv_heads} heads, m]"
                )
            if array.size:
                listed.append((layer, array))
        self._change(Verb.RECALL, choices(listed))

    def release(self) -> None:
        """Let all recalled tokens go from the view again."""
        self._change(Verb.RELEASE, b"")

    def truncate(self, tokens: int) -> None:
        """Make the session what it would be had only its first ``tokens`` tokens ever been appended, bit for bit.

        Recalled tokens go. When this returns it is durable.
        """
        self._change(Verb.TRUNCATE, u64(tokens))

    # MARK: the session as a whole

    def fork(self, name: str, tokens: int | None = None) -> SessionRow:
        """Make a new session ``name`` with the first ``tokens`` tokens (all without), sharing their files on disk.

        It is durable and suspended; open it to go on with it.
        """
        self._handled()
        return self._directory.fork(self.name, name, tokens, owner=self.owner)

    def suspend(self) -> SessionRow:
        """Write what is not yet on disk and give the memory back. This handle is closed by it."""
        self._handled()
        row = self._directory.suspend(self.name, owner=self.owner)
        self._open = False
        return row

    def show(self) -> SessionRow:
        """What the daemon knows of the session now."""
        self._handled()
        return self._directory.show(self.name, owner=self.owner)

    @property
    def closed(self) -> bool:
        """Whether it was closed or suspended from here."""
        return not self._open

    def close(self) -> None:
        """End the lease, if it is one; what was committed or published is kept. Closing twice does nothing.

        Arrays that were handed out stay readable, but no longer mean anything.
        """
        if not self._open:
            return
        self._open = False
        try:
            self._connection.tell(Verb.CLOSE, u32(self._handle))
        except (errors.SessionGone, errors.ConnectionLost):
            pass  # It ended without us.

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __len__(self) -> int:
        return self.tokens

    def __bool__(self) -> bool:
        return True  # An empty session is still a session.

    def __repr__(self) -> str:
        d = self.description
        shape = f"{d.layers}×{d.kv_heads}×({d.key_dim}+{d.value_dim}) {d.dtype}, S={d.sink} L={d.lag} r={d.keep_ratio:g}"
        role = "writer" if self.writer else "reader"
        try:
            now = f"{role}, {self.tokens:,} of {d.capacity:,} tokens, {self.sealed_chunks:,} sealed chunks"
        except errors.LagKVError as error:
            now = error.seen or error.name
        return f"<lagkv.Session {self.name!r}: {now}, {shape}>"

    # MARK: within

    def _shared(self) -> ControlFile:
        """The control file, as long as the session is open."""
        if not self._open:
            errors.refuse("badHandle", "the session is closed", "", "open it again")
        return self._control

    def _handled(self) -> bytes:
        self._shared()
        return u32(self._handle)

    def _need_lease(self) -> None:
        self._shared()
        if not self.writer:
            errors.refuse("notWriter", "writing to a session opened for reading", "", "client.open(name, write=True)")

    def _layer(self, layer: int) -> None:
        # numpy would take -1 for the last layer; here that is somebody's mistake.
        if not 0 <= layer < self.description.layers:
            raise IndexError(f"layer {layer} of {self.description.layers}")

    def _arranged(self) -> Arrangement:
        """The arrangement of rows now; read anew only if it has changed."""
        if self._shared().generation != self._arrangement.generation:
            self._arrangement = self._control.arrangement(self._connection.check)
        return self._arrangement

    def _length(self, arrangement: Arrangement) -> int:
        return arrangement.length(self._slab.published[0])

    def _now(self) -> tuple[Arrangement, int]:
        """The arrangement of rows, and the logical length."""
        arrangement = self._arranged()
        return arrangement, self._tokens if self.writer else self._length(arrangement)

    def _rows(self, arrangement: Arrangement, layer: int, tokens: int) -> slice:
        """The hot view's rows on the arrays' axis."""
        origin = self._slab.origin
        return slice(origin - arrangement.recalled[layer], origin + arrangement.rows[layer] + tokens - arrangement.tokens)

    def _extent(self, layer: int) -> tuple[slice, int, int]:
        """The hot view's rows on the arrays' axis, the logical length, the generation for which both hold."""
        self._layer(layer)
        arrangement, tokens = self._now()
        return self._rows(arrangement, layer, tokens), tokens, arrangement.generation

    def _next_rows(self, layer: int, tokens: int) -> slice:
        """The rows on the arrays' axis of the next tokens of a layer."""
        self._need_lease()
        if tokens < 0:
            raise ValueError(f"{tokens} tokens")
        after = self._tokens + tokens
        if after > self.description.capacity:
            errors.refuse("beyondCapacity", "tokens of the session", after, f"at most {self.description.capacity}")
        if after > self._arranged().grant:
            self._ask_for_room()
            if after > self._arranged().grant:
                errors.refuse("beyondGrant", "tokens in one commit", after, f"at most {self._arranged().grant} now")
        start = self._extent(layer)[0].stop
        return slice(start, start + tokens)

    def _room(self) -> int:
        """The tokens that may be written now, at least 1."""
        if self._arranged().grant <= self._tokens:
            self._ask_for_room()
            if self._arranged().grant <= self._tokens:
                errors.refuse("beyondGrant", "room for one more token", self._tokens, f"at most {self._arranged().grant} now")
        return self._arranged().grant - self._tokens

    def _ask_for_room(self) -> None:
        """A commit that declares nothing new: the daemon answers with room, or with why there is none."""
        self._change(Verb.COMMIT, u64(self._tokens) + u32(0))

    def _write(self, keys: np.ndarray, values: np.ndarray, ids: np.ndarray | None) -> None:
        """Copy tokens behind the last one, the layers of each run at once.

        Pages are not faulted in ahead: MADV_POPULATE_WRITE gained 1.1 to 1.3 times on fresh pages, whose cost is their
        zeroing, and cost more than half of the speed on pages that are there, which is what appends meet from the second
        piece on.
        """
        count, slab = keys.shape[2], self._slab
        arrangement = self._arranged()
        ahead = slab.origin + self._tokens - arrangement.tokens
        for first, end, rows in arrangement.runs:
            place = slice(ahead + rows, ahead + rows + count)
            slab.keys[first:end, :, place] = keys[first:end]
            slab.values[first:end, :, place] = values[first:end]
        slab.ids[self._tokens : self._tokens + count] = 0 if ids is None else ids

    def _checked(self, name: str, given: ArrayLike, dim: int) -> np.ndarray:
        array = elements.as_stored(np.asarray(given), self._element)
        d = self.description
        if array.ndim != 4 or (*array.shape[:2], array.shape[3]) != (d.layers, d.kv_heads, dim):
            raise ValueError(f"{name} is {list(array.shape)}; expected [{d.layers} layers, {d.kv_heads} heads, tokens, {dim}]")
        return array

    def _change(self, verb: Verb, body: bytes) -> None:
        """A request that may move rows; afterwards the new arrangement holds."""
        self._need_lease()
        standing = self._connection.ask(verb, self._handled() + body, Standing.read)
        self._arrangement = self._control.arrangement(self._connection.check)
        self._tokens = standing.tokens


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view


def _checked_ids(ids: ArrayLike, count: int) -> np.ndarray:
    array = np.asarray(ids)
    if array.shape != (count,) or (count and array.dtype.kind not in "iu"):
        raise ValueError(f"ids are {array.dtype.name} {list(array.shape)}; expected {count} integers")
    if count and not (0 <= array.min() and array.max() <= 0xFFFF_FFFF):
        raise ValueError(f"ids from {array.min()} to {array.max()}; expected 32 bits, unsigned")
    return array
