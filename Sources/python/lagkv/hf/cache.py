"""A transformers cache whose past lies in lagkvd sessions."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Sequence as Many

import numpy as np
import torch
import transformers
from transformers.cache_utils import CacheLayerMixin

from lagkv.errors import LagKVError

from . import attention
from .geometry import ModelGeometry
from .recall import Recall
from .sequence import NO_ID, Sequence


class LagKVCache(transformers.Cache):
    """The past of one sequence, or of a batch of independent ones, each in a lagkvd session of its own.

        cache = LagKVCache.create(client, model, "chat-42", keep_ratio=0.125, recall=2)
        model.generate(**inputs, past_key_values=cache)

    It serves `model.generate` and plain forward calls. The logical length drives positions, the resident length drives
    attention; the model is set to the attention function "lagkv", which is torch's scaled dot product for everything else.
    Token ids are stored with the tokens, so that a prompt's beginning is not computed twice (`reuse`).

    Tokens are the session's when the forward call that brought them returns. If the process dies, everything up to the last
    call is there. Inference only; one thread at a time.
    """

    is_compileable = False

    def __init__(self, client, model, sequences: list[Sequence], geometry: ModelGeometry) -> None:
        own = enumerate(_own_layers(model))
        layers = [SessionLayer(self, index) if index in geometry.layers else layer for index, layer in own]
        super().__init__(layers=layers)
        self.geometry = geometry
        self._client = client
        self._model = model
        self._sequences = sequences
        self._held = frozenset(geometry.layers)
        # What transformers counts: columns of a batch, in which shorter sequences are padded on the left.
        self.columns = max(sequence.tokens for sequence in sequences)
        # Of the call under way: its columns, and the ids of each sequence's new tokens.
        self._coming = 0
        self._ids: list[np.ndarray] = []
        # While a call is being committed, and after it was refused half-way, each sequence's tokens before it.
        self._lengths: list[int] = []
        if self._others_stale():
            self._replay(self.columns)

    # Making one.

    @classmethod
    def create(
        cls,
        client,
        model,
        name: str | Many[str],
        *,
        keep_ratio: float = 0.25,
        sink: int = 16,
        lag: int = 128,
        capacity: int | None = None,
        recall: int | Recall = 0,
        **options,
    ) -> LagKVCache:
        """A new session (or one for each of several names). capacity: the model's positions unless said. recall: how many
        chunks come back for a turn, or all about it. options go to `client.create` (shared, disposable, value_weight,
        uncompressed_layers in the session's own numbering)."""
        geometry = ModelGeometry.of(model)
        shape = dict(
            layers=len(geometry.layers), kv_heads=geometry.kv_heads, key_dim=geometry.key_dim, value_dim=geometry.value_dim,
            dtype=geometry.dtype, capacity=capacity or geometry.capacity(), sink=sink, lag=lag, keep_ratio=keep_ratio,
            fingerprint=geometry.fingerprint,
        )  # fmt: skip
        with contextlib.ExitStack() as undo:

            def make(each: str):
                session = client.create(each, **shape, **options)
                undo.callback(client.delete, each)
                return session

            cache = cls._over(client, model, geometry, name, recall, make)
            undo.pop_all()
            return cache

    @classmethod
    def open(cls, client, model, name: str | Many[str], *, recall: int | Recall = 0) -> LagKVCache:
        """The session (or several) of that name, resumed if it was suspended. Raises lagkv.Mismatch, with both
        fingerprints, where it was made by another model."""
        geometry = ModelGeometry.of(model)
        return cls._over(
            client, model, geometry, name, recall, lambda each: client.open(each, write=True, fingerprint=geometry.fingerprint)
        )

    @classmethod
    def _over(cls, client, model, geometry, name, recall, attach) -> LagKVCache:
        """A cache over what `attach` makes of the name, or of each of several; none stays open if one fails."""
        attention.attach(model)
        recall = recall if isinstance(recall, Recall) else Recall(chunks=recall)
        if recall.chunks and geometry.latent:
            raise ValueError(f"{type(model).__name__} caches latents, not keys, so that queries cannot rank chunks: use recall=0")
        with contextlib.ExitStack() as undo:
            sequences = []
            for each in [name] if isinstance(name, str) else name:
                session = attach(each)
                undo.callback(session.close)
                sequences.append(Sequence(session, geometry.layers, recall, model.device))
            cache = cls(client, model, sequences, geometry)
            undo.pop_all()
            return cache

    def sync(self) -> None:
        """Writes what is not yet on disk. All tokens so far then survive the death of the daemon and of the machine."""
        for sequence in self._sequences:
            sequence.session.sync(window=True)

    def close(self) -> None:
        """Ends the leases; the sessions stay, with all their tokens."""
        for sequence in self._sequences:
            sequence.session.close()

    def __enter__(self) -> LagKVCache:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    # What is known.

    @property
    def session(self):
        """The session of a cache of one sequence."""
        return self._alone("session").session

    @property
    def sessions(self) -> list:
        return [sequence.session for sequence in self._sequences]

    @property
    def batch_size(self) -> int:
        return len(self._sequences)

    def sequences_of(self, model_layer: int) -> list[Sequence] | None:
        """The sequences that hold a layer; None where transformers' own cache does."""
        return self._sequences if model_layer in self._held else None

    def _alone(self, what: str) -> Sequence:
        if len(self._sequences) != 1:
            raise ValueError(f"{what}: this cache is a batch of {len(self._sequences)} sessions; open one of them alone")
        return self._sequences[0]

    # Rewinding, forking, prefixes.

    def truncate(self, tokens: int) -> None:
        """As if only the first `tokens` tokens had ever come: a chat rewound to an earlier message."""
        sequence = self._alone("truncate")
        if not 0 <= tokens <= sequence.tokens:
            raise ValueError(f"truncate to {tokens:,} tokens: the session has {sequence.tokens:,}")
        if tokens != sequence.tokens:
            sequence.truncate(tokens)
            if self._others_stale():
                self._replay(tokens)
        self.columns, self._lengths = tokens, []

    def crop(self, tokens_to_remove: int) -> None:
        """transformers' word for it: a negative number of tokens to remove, as its other caches take it."""
        if tokens_to_remove > 0:
            raise ValueError(f"crop({tokens_to_remove}): transformers crops by a negative number; truncate(n) keeps n tokens")
        self.truncate(self.get_seq_length() + tokens_to_remove)

    def reset(self) -> None:
        for sequence in self._sequences:
            sequence.truncate(0)
        self._take_others(_own_layers(self._model))
        self.columns, self._lengths = 0, []

    def reuse(self, ids) -> int:
        """Keeps what the session shares with the beginning of the prompt `ids` [1, n] or [n], truncates the rest away, and
        returns how many tokens need not be computed again. At least one is left to compute, for its logits. `generate` with
        the whole prompt then computes only what is new."""
        sequence = self._alone("reuse")
        ids = _numbers(ids).reshape(-1)
        if len(ids) == 0:
            raise ValueError("reuse: the prompt is empty")
        self.truncate(min(sequence.shared_prefix(ids), len(ids) - 1))
        return sequence.tokens

    def fork(self, name: str, tokens: int | None = None) -> LagKVCache:
        """A second session `name` with the first `tokens` tokens (all unless said), sharing their files; both go on."""
        sequence = self._alone("fork")
        sequence.session.fork(name, tokens)
        return LagKVCache.open(self._client, self._model, name, recall=sequence.recall)

    def adopt(self, past: transformers.Cache, ids: torch.Tensor, queries: dict[int, torch.Tensor] | None = None) -> None:
        """Appends what was computed elsewhere: the keys and values of `past`, which holds the tokens `ids` [1, n] and nothing
        else. queries, by the model's layer, [query heads, some, dim]: the last ones of a turn that ends here; what they want
        is recalled at once."""
        sequence = self._alone("adopt")
        if len(self._held) < len(self.layers):
            raise ValueError("adopt: the model has layers that no session holds; compute the prompt with this cache instead")
        sequence.adopt([(layer.keys, layer.values) for layer in past.layers], _numbers(ids).reshape(-1), queries or {})
        self.columns = sequence.tokens

    # Recall.

    def begin_turn(self) -> None:
        """The next call begins a turn and recalls for it, however few tokens it has."""
        for sequence in self._sequences:
            sequence.begin_turn()

    def recall_now(self) -> None:
        """Ranks by the newest queries and recalls what they choose: on demand, between two calls, also amid an answer."""
        for sequence in self._sequences:
            sequence.recall_now()

    def release(self) -> None:
        """Lets what was recalled go before the next turn does."""
        for sequence in self._sequences:
            sequence.release()

    # A forward call: `attention` calls these around it.

    def begin(self, ids: torch.Tensor | None, shape: torch.Size, mask: torch.Tensor | None) -> None:
        """ids [batch, m], where the call has ids; shape begins with batch and m; mask as the caller gave it."""
        batch, m = shape[:2]
        if batch != len(self._sequences):
            raise ValueError(
                f"a batch of {batch} for a cache of {len(self._sequences)} session(s): beams and several answers to one prompt "
                "need sessions of their own; fork the session, or create a cache with a name for each"
            )
        if self._lengths:
            self._take_back()
        self._coming, self._ids = m, []
        for row, (sequence, count) in enumerate(zip(self._sequences, self._real(ids, m, mask), strict=True)):
            sequence.begin(count)
            self._ids.append(np.full(count, NO_ID, np.uint32) if ids is None else _numbers(ids[row, m - count :]))

    def commit(self) -> None:
        self._lengths = [sequence.tokens for sequence in self._sequences]
        try:
            for sequence, ids in zip(self._sequences, self._ids, strict=True):
                sequence.commit(ids)
        except BaseException:
            # A full budget, say. All sequences take a call or none does: if not now, then before the next one begins.
            with contextlib.suppress(LagKVError):
                self._take_back()
            raise
        self._lengths = []
        self.columns += self._coming

    def _take_back(self) -> None:
        """Undoes what a call that was refused half-way has left."""
        self.abandon()
        for sequence, tokens in zip(self._sequences, self._lengths, strict=True):
            sequence.truncate(tokens)
        self._lengths = []

    def abandon(self) -> None:
        for sequence in self._sequences:
            sequence.abandon()

    def _real(self, ids: torch.Tensor | None, m: int, mask: torch.Tensor | None) -> list[int]:
        """How many of the m new columns are tokens of each sequence; the others, on the left, are padding."""
        if mask is None:
            real = [m] * len(self._sequences)
        elif not isinstance(mask, torch.Tensor) or mask.ndim != 2:
            raise ValueError("a mask of other than padding [batch, tokens]: a session's past is causal and masks itself")
        else:
            new = mask[:, -m:].to(torch.bool)
            real = new.sum(dim=1).tolist()
            for row, count in enumerate(real):
                if not bool(new[row, m - count :].all()):
                    raise ValueError(f"row {row} of the batch is padded on the right; pad on the left")
        if len(self._sequences) > 1 and m == 1 and ids is not None:
            # generate goes on with pads for a sequence that has ended; they are nobody's tokens.
            ends, pad = _ends_and_pad(self._model)
            for row, sequence in enumerate(self._sequences):
                if sequence.tokens and int(ids[row, 0]) == pad and int(sequence.session.ids[-1]) in ends:
                    real[row] = 0
        return real

    # Layers of other kinds.

    def _others_stale(self) -> bool:
        return self.columns > 0 and len(self._held) < len(self.layers)

    def _replay(self, tokens: int) -> None:
        """Computes the first `tokens` tokens again, from their ids: layers that are not the session's keep only their newest
        tokens, and nothing of them when the process ends. A second session stands in for this one, which stays as it is."""
        session = self._alone("a model with layers of other kinds").session
        ids = session.ids[:tokens].astype(np.int64)
        if NO_ID in ids:
            raise ValueError(f"session {session.name!r} has tokens that came as embeddings: they cannot be computed again")
        policy = ("sink", "lag", "keep_ratio", "value_weight", "uncompressed_layers", "capacity")
        same = {key: getattr(session.description, key) for key in policy}
        name = f"replay-{uuid.uuid4().hex}"
        past = LagKVCache.create(self._client, self._model, name, recall=self._sequences[0].recall, disposable=True, **same)
        try:
            for piece in torch.from_numpy(ids)[None].to(self._model.device).split(512, dim=1) if tokens else ():
                attention.forward(self._model, piece, past, logits_to_keep=1)
            self._take_others(past.layers)
        finally:
            past.close()
            self._client.delete(name)

    def _take_others(self, layers: list) -> None:
        for index, layer in enumerate(layers):
            if index not in self._held:
                self.layers[index] = layer


class SessionLayer(CacheLayerMixin):
    """One layer of the model in the sessions, as transformers asks for it."""

    is_sliding = False
    is_croppable = True
    supports_early_init = False

    def __init__(self, cache: LagKVCache, index: int) -> None:
        super().__init__()
        self._cache = cache
        self._index = index
        self.is_initialized = True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None: ...

    def update(self, key_states, value_states, *args, **kwargs):
        """[batch, heads, m, dim] go to their sessions; a single one's whole view comes back. In a batch the attention function
        takes each session's view for itself."""
        if attention.running.get() is not self._cache:
            raise RuntimeError("this cache was made for another model: create or open it with the model that runs")
        self._check(key_states, value_states)
        if key_states.requires_grad:
            key_states, value_states = key_states.detach(), value_states.detach()
        sequences = self._cache.sequences_of(self._index)
        for row, sequence in enumerate(sequences):
            if m := sequence.incoming:
                sequence.write(self._index, key_states[row : row + 1, :, -m:], value_states[row : row + 1, :, -m:])
        if len(sequences) > 1 or not sequences[0].incoming:
            return key_states, value_states
        return sequences[0].view(self._index)

    def _check(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        geometry = self._cache.geometry
        seen = (keys.shape[1], keys.shape[3], values.shape[3])
        if seen != (geometry.kv_heads, geometry.key_dim, geometry.value_dim):
            raise ValueError(
                f"layer {self._index} computes {seen[0]} KV heads of {seen[1]} and {seen[2]} channels; by the model's "
                f"configuration the session holds {geometry.kv_heads} of {geometry.key_dim} and {geometry.value_dim}"
            )

    def get_seq_length(self) -> int:
        return self._cache.columns

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        # "lagkv" masks by what is resident in the moment it attends: of transformers it asks for the least, the new columns.
        return query_length, self._cache.columns

    def get_max_length(self) -> int:
        return min(session.description.capacity for session in self._cache.sessions)

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        raise NotImplementedError("beam search moves a sequence's past between beams; a lagkvd session holds one sequence")

    def batch_repeat_interleave(self, repeats: int) -> None:
        raise NotImplementedError("a lagkvd session holds one sequence: fork it for each continuation")

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        raise NotImplementedError("a lagkvd session holds one sequence: open a cache over the sessions you want to go on with")


def _own_layers(model) -> list:
    """The layers of a cache of transformers' own, empty."""
    return transformers.DynamicCache(config=model.config.get_text_config(decoder=True)).layers


def _numbers(ids) -> np.ndarray:
    return np.asarray(ids.cpu() if isinstance(ids, torch.Tensor) else ids).astype(np.uint32)


def _ends_and_pad(model) -> tuple[set[int], int | None]:
    """The ids that end an answer, and the one that generate goes on with for a sequence that has ended."""
    config = model.generation_config
    ends = config.eos_token_id
    ends = set(ends) if isinstance(ends, (list, tuple)) else set() if ends is None else {ends}
    return ends, config.pad_token_id if config.pad_token_id is not None else min(ends, default=None)
