"""One session as a model sees it: the rows of its layers, the call under way, and what is recalled for the turn."""

from __future__ import annotations

import numpy as np
import torch

from .recall import Recall, rank
from .rows import DeviceRows, SharedRows, append


class Sequence:
    """session: open for writing. layers: the model's index of each of its layers. What a turn is, and what it recalls, is
    said in `Recall`."""

    def __init__(self, session, layers: tuple[int, ...], recall: Recall, device: torch.device, mirror: bool = False) -> None:
        self.session = session
        self.recall = recall
        self.incoming = 0
        self._rows = DeviceRows(session, device) if mirror or device.type != "cpu" else SharedRows(session)
        self._place = {model_layer: layer for layer, model_layer in enumerate(layers)}
        # A layer that keeps everything has nothing to recall.
        description = session.description
        self._evicting = [
            layer
            for layer in range(description.layers)
            if description.keep_ratio < 1 and layer not in description.uncompressed_layers
        ]
        self._last_queries: dict[int, tuple[torch.Tensor, float]] = {}
        self._ranking = False
        self._recalled = False
        self._since_ranked = 0

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
        self._rows.begin(m)
        # The first call of all begins a turn too: what it recalls is chosen when it has been sealed.
        self._ranking = bool(self.recall.chunks and self._evicting) and (m > self.recall.turn or (self.tokens == 0 and m > 0))
        if self._ranking:
            self.release()

    def write(self, model_layer: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """The new tokens of one layer, [heads, m, dim]."""
        self._rows.write(self._place[model_layer], keys, values)

    def view(self, model_layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Everything resident of one layer, [heads, n, dim]: recalled rows, the hot view, the new tokens."""
        return self._rows.view(self._place[model_layer])

    def asked(self, model_layer: int, queries: torch.Tensor, scaling: float) -> bool:
        """Queries [query heads, m, dim] of one layer are about to attend. True if a turn begins and they recalled something:
        then what is resident is more than it was."""
        if not self._ranking and not self.recall.refresh:
            return False
        layer = self._place[model_layer]
        if layer not in self._evicting:
            return False
        self._remember(layer, queries, scaling)
        if not self._ranking or not self.session.sealed_chunks:
            return False
        self.session.recall_layers({layer: self._choice(layer)})
        self._recalled = True
        self._rows.rearranged()
        return True

    def commit(self, ids: np.ndarray | None) -> None:
        """The call is done: its tokens are the session's, and chunks may have been sealed."""
        if not self.incoming:
            return
        sealed = self.session.sealed_chunks
        self._rows.commit(ids)
        self._since_ranked += self.incoming
        self.incoming = 0
        if self._ranking:
            self._since_ranked = 0
            # What this call itself made evictable was not there to be ranked by its queries.
            if self.session.sealed_chunks > sealed:
                self.recall_now()
        elif self.recall.refresh and self._recalled and self._since_ranked >= self.recall.refresh:
            self.recall_now()
        self._ranking = False

    def abandon(self) -> None:
        """The call failed: nothing of it stays."""
        self._rows.abandon()
        self.incoming, self._ranking = 0, False

    def adopt(self, layers: list[tuple[torch.Tensor, torch.Tensor]], ids: np.ndarray, queries: dict[int, torch.Tensor]) -> None:
        """Appends all layers' keys and values [heads, n, dim] that were computed elsewhere, and recalls by their last queries."""
        append(self.session, dict(enumerate(layers)), ids)
        self._rows.rearranged()
        if self.recall.chunks:
            for model_layer, of_layer in queries.items():
                layer, n = self._place[model_layer], self.recall.queries
                if layer in self._evicting:
                    self._last_queries[layer] = (of_layer[:, -n:], of_layer.shape[-1] ** -0.5)
            self.recall_now()

    # Recall.

    def recall_now(self) -> None:
        """Ranks all layers by the last queries again and recalls what they choose, in one request."""
        self.release()
        if self.session.sealed_chunks and self._last_queries:
            self.session.recall_layers({layer: self._choice(layer) for layer in self._last_queries})
            self._recalled = True
            self._rows.rearranged()
        self._since_ranked = 0

    def release(self) -> None:
        """Lets what was recalled go."""
        if self._recalled:
            self.session.release()
            self._recalled = False
            self._rows.rearranged()

    def _remember(self, layer: int, queries: torch.Tensor, scaling: float) -> None:
        n = self.recall.queries
        last = queries[:, -n:].clone()
        if not self._ranking and layer in self._last_queries:
            last = torch.cat((self._last_queries[layer][0], last), dim=1)[:, -n:]
        self._last_queries[layer] = (last, scaling)

    def _choice(self, layer: int) -> np.ndarray:
        queries, scaling = self._last_queries[layer]
        dtype = queries.dtype
        lo, hi = (_summary(part, dtype) for part in self.session.summaries(layer))
        return rank(queries.cpu(), lo, hi, scaling, self.recall.chunks).numpy().astype(np.uint32)

    # The past.

    def truncate(self, tokens: int) -> None:
        if tokens != self.tokens:
            self.session.truncate(tokens)
            self._recalled = False
            self._last_queries.clear()
            self._rows.rearranged()

    def shared_prefix(self, ids: np.ndarray) -> int:
        """How many of its first tokens are the first of `ids`."""
        mine = self.session.ids
        n = min(len(mine), len(ids))
        differing = np.flatnonzero(mine[:n] != ids[:n])
        return int(differing[0]) if len(differing) else n


def _summary(array: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    # A copy of a few kilobytes: the mapping is read-only, which torch cannot express.
    return torch.from_numpy(array.copy()).view(dtype)
