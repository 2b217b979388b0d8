"""LagKV and a session in plain numpy: what the daemon must agree with, written from the definition and from nothing else.

``Oracle`` holds every token that was ever appended and says what a session must show. Everything here is computed anew from
those tokens; there is no state of chunks or windows that could go wrong in the same way as the daemon's.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

STORAGE = {"float32": "<f4", "float16": "<f2", "bfloat16": "<u2", "float8_e4m3": "u1", "float8_e5m2": "u1"}
BITS = {"float32": "<u4", "float16": "<u2", "bfloat16": "<u2", "float8_e4m3": "u1", "float8_e5m2": "u1"}


def _e4m3() -> np.ndarray:
    """The 256 values of OCP FP8 E4M3: no infinities, S.1111.111 is NaN."""
    code = np.arange(256)
    exponent, mantissa = code >> 3 & 15, code & 7
    value = np.where(exponent == 0, mantissa / 8 * 2.0**-6, (1 + mantissa / 8) * 2.0 ** (exponent - 7.0))
    value[(code & 127) == 127] = np.nan
    return np.where(code < 128, value, -value).astype(np.float32)


_E4M3 = _e4m3()


def bits(array: np.ndarray, dtype: str) -> np.ndarray:
    """The same memory as unsigned integers, for comparing bit for bit: a NaN equals itself, 0 differs from -0."""
    return array.view(BITS[dtype])


def decoded(array: np.ndarray, dtype: str) -> np.ndarray:
    """Stored numbers as float32, exactly."""
    raw = bits(np.ascontiguousarray(array), dtype)
    if dtype == "bfloat16":
        return (raw.astype("<u4") << 16).view("<f4")
    if dtype == "float8_e4m3":
        return _E4M3[raw]
    if dtype == "float8_e5m2":
        return (raw.astype("<u2") << 8).view("<f2").astype(np.float32)
    return array.astype(np.float32)


def encoded(numbers: np.ndarray, dtype: str) -> np.ndarray:
    """float32 numbers as stored ones, rounded somehow: tests need plausible numbers, not the nearest."""
    if dtype == "bfloat16":
        return (numbers.astype("<f4").view("<u4") >> 16).astype("<u2")
    if dtype == "float8_e5m2":
        return (numbers.astype("<f2").view("<u2") >> 8).astype("u1")
    if dtype == "float8_e4m3":
        order = np.argsort(_E4M3[:127])
        found = np.searchsorted(_E4M3[:127][order], np.minimum(np.abs(numbers), 448))
        return (order[np.minimum(found, 126)] | np.where(numbers < 0, 128, 0)).astype("u1")
    return numbers.astype(STORAGE[dtype])


def bounds(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """lo and hi of [.., tokens, channels] over tokens, of finite values; 0 and 0 where there is none."""
    finite = np.isfinite(rows)
    lo = np.where(finite, rows, np.inf).min(-2)
    hi = np.where(finite, rows, -np.inf).max(-2)
    none = ~finite.any(-2)
    return np.where(none, 0, lo), np.where(none, 0, hi)


def deviations(rows: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """σ[.., tokens]: the unbiased deviation over channels of x̂; NaN where a token is not finite."""
    lo, hi = (b[..., None, :].astype(np.float64) for b in bounds(reference))
    flat = hi == lo
    scaled = np.where(flat, np.where(np.isfinite(rows), 0, np.nan), (rows - lo) / np.where(flat, 1, hi - lo))
    if rows.shape[-1] == 1:
        return np.where(np.isfinite(scaled[..., 0]), 0.0, np.nan)
    return scaled.std(-1, ddof=1)


def scores(k: np.ndarray, v: np.ndarray, next_k: np.ndarray, next_v: np.ndarray, weight: float) -> np.ndarray:
    """score[.., tokens] of a chunk by the next one; infinite for tokens that are not finite, which are kept first."""
    with np.errstate(invalid="ignore", over="ignore"):
        deviation = [deviations(k, next_k), deviations(v, next_v)]
        normal = np.isfinite(deviation[0]) & np.isfinite(deviation[1])
        total = np.zeros(normal.shape)
        for part, share in zip(deviation, (1.0, weight), strict=True):
            powers = np.where(normal, np.exp(np.where(normal, part, 0) - np.where(normal, part, 0).max(-1, keepdims=True)), 0)
            total += share * powers / np.maximum(powers.sum(-1, keepdims=True), 1e-300)
    return np.where(normal, total, np.inf)


class Oracle:
    """One session as it must be: all its tokens, and its policy."""

    #: Scores closer than this, relatively, may be ranked either way by an implementation in float32.
    TIE = 1e-6
    near_ties = 0

    def __init__(
        self, layers: int, heads: int, key_dim: int, value_dim: int, dtype: str, sink: int, lag: int, keep_ratio: float,
        value_weight: float = 1.0, uncompressed: tuple[int, ...] = (),
    ) -> None:  # fmt: skip
        self.layers, self.heads, self.dtype = layers, heads, dtype
        self.sink, self.lag, self.keep_ratio = sink, lag, keep_ratio
        self.value_weight, self.uncompressed = value_weight, uncompressed
        self.keys = np.empty((layers, heads, 0, key_dim), STORAGE[dtype])
        self.values = np.empty((layers, heads, 0, value_dim), STORAGE[dtype])
        self.ids = np.empty(0, "<u4")
        #: For each layer the chunks that each head has recalled.
        self.recalled: dict[int, list[set[int]]] = {}
        self._scores: dict[tuple[int, int], np.ndarray] = {}
        self._verified: dict[tuple[int, int], np.ndarray] = {}

    @property
    def tokens(self) -> int:
        return self.keys.shape[2]

    @property
    def sealed(self) -> int:
        return max(0, (self.tokens - self.sink) // self.lag - 1)

    def kept(self, layer: int) -> int:
        """Tokens of a sealed chunk that stay in the view of a layer."""
        return self.lag if layer in self.uncompressed else int(self.keep_ratio * self.lag)

    def append(self, k: np.ndarray, v: np.ndarray, ids: np.ndarray | None) -> None:
        self.keys = np.concatenate([self.keys, k], 2)
        self.values = np.concatenate([self.values, v], 2)
        self.ids = np.concatenate([self.ids, np.zeros(k.shape[2], "<u4") if ids is None else ids.astype("<u4")])

    def truncate(self, tokens: int) -> None:
        self.keys, self.values, self.ids = self.keys[:, :, :tokens], self.values[:, :, :tokens], self.ids[:tokens]
        self.recalled = {}
        self._scores, self._verified = (
            {key: value for key, value in cache.items() if key[1] < self.sealed} for cache in (self._scores, self._verified)
        )

    def fork(self, tokens: int) -> Oracle:
        other = Oracle.__new__(Oracle)
        other.__dict__.update(self.__dict__)
        other.truncate(tokens)  # which replaces what it changes
        return other

    def chunk(self, index: int) -> slice:
        return slice(self.sink + index * self.lag, self.sink + (index + 1) * self.lag)

    def scores(self, layer: int, chunk: int) -> np.ndarray:
        """[heads, lag]"""
        if (layer, chunk) not in self._scores:
            both = slice(self.chunk(chunk).start, self.chunk(chunk + 1).stop)
            k, v = (decoded(a[layer, :, both], self.dtype) for a in (self.keys, self.values))
            here, there = slice(0, self.lag), slice(self.lag, None)
            self._scores[layer, chunk] = scores(k[:, here], v[:, here], k[:, there], v[:, there], self.value_weight)
        return self._scores[layer, chunk]

    def summaries(self, layer: int) -> tuple[np.ndarray, np.ndarray]:
        """[sealed chunks, heads, key_dim] each, as float32."""
        k = decoded(self.keys[layer], self.dtype)
        pairs = [bounds(k[:, self.chunk(c)]) for c in range(self.sealed)]
        empty = np.empty((0, self.heads, k.shape[-1]), np.float32)
        return tuple(np.stack([p[i] for p in pairs]) if pairs else empty for i in (0, 1))  # type: ignore[return-value]

    def choose(self, random: np.random.Generator, layer: int, count: int) -> np.ndarray | None:
        """Chunks to recall, [heads, count], none of them recalled already; None if there are not so many."""
        taken = self.recalled.get(layer, [set()] * self.heads)
        free = [[c for c in range(self.sealed) if c not in of_head] for of_head in taken]
        if min(map(len, free)) < count:
            return None
        return np.stack([random.choice(chunks, count, replace=False) for chunks in free])

    def recall(self, layer: int, chunks: np.ndarray) -> None:
        taken = self.recalled.setdefault(layer, [set() for _ in range(self.heads)])
        for of_head, more in zip(taken, chunks.tolist(), strict=True):
            of_head.update(more)

    # MARK: checks

    def check_view(self, layer: int, keys: np.ndarray, values: np.ndarray, positions: np.ndarray) -> None:
        """Assert that a hot view is right: which tokens it holds, in which order, and every bit of them."""
        recalled = len(self.recalled[layer][0]) * (self.lag - self.kept(layer)) if layer in self.recalled else 0
        rows = recalled + self.tokens - self.sealed * (self.lag - self.kept(layer))
        assert keys.shape[:2] == values.shape[:2] == positions.shape == (self.heads, rows)
        evicted = self._check_resident(layer, positions[:, recalled:])
        for head in range(self.heads):
            if recalled:
                expected = np.concatenate([evicted(head, chunk) for chunk in sorted(self.recalled[layer][head])])
                assert (np.sort(positions[head, :recalled]) == expected).all()
            here = positions[head]
            assert (bits(keys[head], self.dtype) == bits(self.keys[layer, head, here], self.dtype)).all()
            assert (bits(values[head], self.dtype) == bits(self.values[layer, head, here], self.dtype)).all()

    def _check_resident(self, layer: int, positions: np.ndarray) -> Callable[[int, int], np.ndarray]:
        """Assert the positions of sink, kept and window; returns which positions of a chunk a head has evicted."""
        kept, sealed = self.kept(layer), self.sealed
        first, window = min(self.sink, self.tokens), self.sink + sealed * kept
        assert (positions[:, :first] == np.arange(first)).all()
        assert (positions[:, window:] == np.arange(self.sink + sealed * self.lag, self.tokens)).all()
        chunks = positions[:, self.sink : window].reshape(self.heads, sealed, kept)
        for chunk in range(sealed):
            offsets = chunks[:, chunk] - self.chunk(chunk).start
            # What was right once is right as long as the chunk and its reference are there.
            if not np.array_equal(self._verified.get((layer, chunk)), offsets):
                for head in range(self.heads):
                    self._check_kept(layer, head, chunk, offsets[head])
                self._verified[layer, chunk] = offsets
        return lambda head, chunk: np.setdiff1d(np.arange(self.tokens)[self.chunk(chunk)], chunks[head, chunk])

    def _check_kept(self, layer: int, head: int, chunk: int, offsets: np.ndarray) -> None:
        assert (np.diff(offsets) > 0).all() and offsets.min(initial=0) >= 0 and offsets.max(initial=0) < self.lag
        if len(offsets) == self.lag:
            return
        score = self.scores(layer, chunk)[head]
        expected = np.sort(np.argsort(-score, kind="stable")[: len(offsets)])
        missing, extra = np.setdiff1d(expected, offsets), np.setdiff1d(offsets, expected)
        if len(missing) == 0:
            return
        # Other tokens than expected: right only if float32 could not tell them apart, and wrong if nobody could.
        gap = score[missing].max() - score[extra].min()
        assert gap <= self.TIE * score[missing].max(), f"layer {layer}, head {head}, chunk {chunk}: kept {extra}, not {missing}"
        start = self.chunk(chunk).start
        chunk_rows = [a[layer, head, start : start + self.lag] for a in (self.keys, self.values)]
        rows = np.concatenate([np.ascontiguousarray(a).view("u1") for a in chunk_rows], -1)
        twins = [(a, b) for a in missing for b in extra if a < b and (rows[a] == rows[b]).all()]
        assert not twins, f"layer {layer}, head {head}, chunk {chunk}: of equal tokens the later was kept: {twins}"
        Oracle.near_ties += len(missing)


def numbers(random: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Keys or values as a model might make them: channels of their own scale and offset, now and then a constant channel, a
    repeated token, a NaN or an infinity."""
    channels = shape[-1]
    scale, offset = random.lognormal(0, 1, channels), random.normal(0, 2, channels)
    array = (random.standard_normal(shape) * scale + offset).astype(np.float32)
    if random.random() < 0.2:
        array[..., random.integers(channels)] = 1.5
    stored = encoded(array, dtype)
    if shape[-2] > 1 and random.random() < 0.3:
        stored[..., random.integers(shape[-2]), :] = stored[..., random.integers(shape[-2]), :]
    if stored.size and random.random() < 0.1:
        abnormal = {"float32": 0x7FC00000, "float16": 0xFC00, "bfloat16": 0x7F80, "float8_e4m3": 0x7F, "float8_e5m2": 0x7C}
        flat = bits(stored.reshape(-1), dtype)
        flat[random.integers(flat.size)] = abnormal[dtype]
        stored = flat.view(STORAGE[dtype]).reshape(shape)
    return stored
