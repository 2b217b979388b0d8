"""One session as a model sees it: the rows of its layers, the call under way, and what is recalled for the turn."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import torch

from .recall import Recall
from .rows import DeviceRows, SharedRows, append

# The id of a token that came as an embedding: no vocabulary has it, so no prompt shares it.
NO_ID = 0xFFFF_FFFF


class Sequence:
    """session: open for writing. layers: the model's index of each of its layers. What a turn is, and what it recalls, is
    said in `Recall`."""

    def __init__(self, session, layers: tuple[int, ...], recall: Recall, device: torch.device) -> None:
        self.session = session
        self.recall = recall
        # Tokens of the call under way.
        self.incoming = 0
        # Whether the call under way begins a turn: its queries rank, layer by layer.
        self.ranking = False
        self._rows = SharedRows(session) if device.type == "cpu" else DeviceRows(session, device)
        self._place = {model_layer: layer for layer, model_layer in enumerate(layers)}
        self._recalls = self._evicting_layers() if recall.chunks else []
        # By layer that recalls, the newest queries [query heads, some, dim]: what `recall.queries` of them are taken from.
        self._queries = {layer: deque(maxlen=recall.queries) for layer in self._recalls}
        self._scaling = 1.0
        self._turn_begins = False
        self._recalled = False
        self._since_ranked = 0

    def _evicting_layers(self) -> list[int]:
        """A layer that keeps everything has nothing to recall."""
        description = self.session.description
        if description.keep_ratio == 1:
            return []
        return [layer for layer in range(description.layers) if layer not in description.uncompressed_layers]

    @property
    def tokens(self) -> int:
        return self.session.tokens

    # A forward call.

    def begin(self, m: int) -> None:
        """m new tokens come, for all layers; 0 where this sequence has none in a batch's call."""
        description = self.session.description
        if self.tokens + m > description.capacity:
            raise ValueError(
                f"session {self.session.name!r} holds {self.tokens:,} tokens and {m:,} more would come; "
                f"its capacity is {description.capacity:,}"
            )
        self.incoming = m
        # The first call of all begins a turn too: what it recalls is chosen when it has been sealed.
        begins = self._turn_begins or m > self.recall.turn or self.tokens == 0
        self.ranking = bool(self._recalls) and m > 0 and begins
        if self.ranking:
            self._turn_begins = False
            self.release()
        self._rows.begin(m)

    def begin_turn(self) -> None:
        """The next call begins a turn, however few tokens it has."""
        self._turn_begins = True

    def write(self, model_layer: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """The new tokens of one layer, [1, heads, m, dim]."""
        self._rows.write(self._place[model_layer], keys, values)

    def view(self, model_layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Everything resident of one layer, [1, heads, n, dim]: recalled rows, the hot view, the new tokens."""
        return self._rows.view(self._place[model_layer])

    def asked(self, model_layer: int, queries: torch.Tensor, scaling: float) -> bool:
        """Queries [query heads, m, dim] of one layer are about to attend. True if a turn begins and they recalled something:
        then what is resident is more than it was."""
        newest = self._queries.get(self._place[model_layer])
        if newest is None:
            return False
        if self.ranking:
            newest.clear()
        # A few of many queries are copied, so that the others' memory can go; a decoded token's are all there is.
        few = queries.shape[1] <= self.recall.queries
        newest.append(queries if few else queries[:, -self.recall.queries :].clone())
        self._scaling = scaling
        if not self.ranking or not self.session.sealed_chunks:
            return False
        self.recall_layers([self._place[model_layer]])
        return True

    def commit(self, ids: np.ndarray) -> None:
        """The call is done: its tokens are the session's, and chunks may have been sealed."""
        if not self.incoming:
            return
        sealed = self.session.sealed_chunks
        self._rows.commit(ids)
        self._since_ranked += self.incoming
        self.incoming = 0
        if self.ranking:
            self.ranking = False
            self._since_ranked = 0
            # What this call itself made evictable was not there to be ranked by its queries.
            if self.session.sealed_chunks > sealed:
                self.recall_now()
        elif self.recall.refresh and self._recalled and self._since_ranked >= self.recall.refresh:
            self.recall_now()

    def abandon(self) -> None:
        """The call failed: nothing of it stays."""
        self._rows.abandon()
        self.incoming, self.ranking = 0, False

    def adopt(self, layers: list[tuple[torch.Tensor, torch.Tensor]], ids: np.ndarray, queries: dict[int, torch.Tensor]) -> None:
        """Appends all layers' keys and values [1, heads, n, dim] that were computed elsewhere, and recalls by their last
        queries [query heads, some, dim]."""
        append(self.session, layers, ids)
        self._rows.rearranged()
        for model_layer, of_layer in queries.items():
            if (newest := self._queries.get(self._place[model_layer])) is not None:
                newest.append(of_layer[:, -self.recall.queries :])
                self._scaling = of_layer.shape[-1] ** -0.5
        if queries and self._recalls:
            self.recall_now()

    # Recall.

    def recall_now(self) -> None:
        """`recall_layers` of all layers that evict, in place of what was recalled before."""
        if not self._recalls:
            raise ValueError(f"session {self.session.name!r} recalls nothing: it keeps everything, or was opened with recall=0")
        if not all(self._queries.values()):
            raise ValueError(f"session {self.session.name!r} has seen no query since it was opened or rewound")
        self.release()
        # Where the call that just ended sealed chunks, the rows to rank by lie elsewhere now.
        self._rows.rearranged()
        if self.session.sealed_chunks:
            self.recall_layers(self._recalls)
        self._since_ranked = 0

    def release(self) -> None:
        """Lets what was recalled go."""
        if self._recalled:
            self.session.release()
            self._recalled = False
            self._rows.rearranged()

    def recall_layers(self, layers: list[int]) -> None:
        """Ranks layers of the session by their newest queries and recalls what they choose, in one request."""
        self.session.recall_layers({layer: self._choice(layer) for layer in layers})
        self._recalled = True
        self._rows.rearranged()

    def _choice(self, layer: int) -> np.ndarray:
        queries = torch.cat(tuple(self._queries[layer]), dim=1)[:, -self.recall.queries :]
        lo, hi = (_summary(part, queries) for part in self.session.summaries(layer))
        choice = self.recall.rule(queries, lo, hi, self._kept(layer), self._scaling, self.recall.chunks, self.recall.kept_weight)
        return choice.cpu().numpy().astype(np.uint32)

    def _kept(self, layer: int) -> torch.Tensor:
        """The kept keys of a layer that has nothing recalled, [heads, sealed chunks, rows, dim]: behind the sink, chunk by chunk."""
        description = self.session.description
        chunks, rows = self.session.sealed_chunks, math.floor(description.keep_ratio * description.lag)
        keys = self._rows.past_keys(layer)[0, :, description.sink : description.sink + chunks * rows]
        return keys.unflatten(1, (chunks, rows))

    # The past.

    def truncate(self, tokens: int) -> None:
        if tokens != self.tokens:
            self.session.truncate(tokens)
            self._recalled = False
            for newest in self._queries.values():
                newest.clear()
            self._rows.rearranged()

    def shared_prefix(self, ids: np.ndarray) -> int:
        """How many of its first tokens are the first of `ids`."""
        mine = self.session.ids
        n = min(len(mine), len(ids))
        differing = np.flatnonzero(mine[:n] != ids[:n])
        return int(differing[0]) if len(differing) else n


def _summary(array: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    # A copy of a few kilobytes: the mapping is read-only, which torch cannot express.
    return torch.from_numpy(array.copy()).view(like.dtype).to(like.device)
