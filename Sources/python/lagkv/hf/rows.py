"""Where the rows of one session lie, as tensors: in the shared memory itself, or copied to an accelerator.

A forward call of m tokens goes through both in the same way: `begin(m)`, `write` once a layer, `view` as often as attention
needs it, `commit(ids)`; or `abandon` if the call failed. All tensors are [1, heads, n, dim], as a model passes them.
"""

from __future__ import annotations

import numpy as np
import torch

# numpy holds bfloat16 as unsigned integers of the same bits.
_TORCH = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class SharedRows:
    """The rows of every layer in the shared memory: a layer's keys and values are slices of one mapping. New tokens are
    written there in place, and no step copies what is there already, with one exception: a call of more tokens than the
    daemon grants room for at once is held back until it has been attended (exactly, over all of it), a layer at a time, and
    appended in pieces afterwards."""

    def __init__(self, session) -> None:
        self._session = session
        self._slabs = [self._tensors(*session.slab(layer)) for layer in range(session.description.layers)]
        # The rows of each layer's hot view. Asked once a call, not once a layer: a decoded token passes here with every layer.
        self._extents = session.extents()
        self._incoming = 0
        # By layer, the new keys and values of a call that does not fit into what is granted; None where it fits.
        self._held: dict[int, tuple[torch.Tensor, torch.Tensor]] | None = None

    def _tensors(self, *arrays: np.ndarray) -> tuple[torch.Tensor, ...]:
        return tuple(torch.from_numpy(array)[None].view(_TORCH[self._session.description.dtype]) for array in arrays)

    def begin(self, m: int) -> None:
        self._held = None if self._fits(m) else {}
        self._incoming = m
        self._extents = self._session.extents()

    def _fits(self, m: int) -> bool:
        if self._session.tokens + m > self._session.grant and m == 1:
            self._session.window_ids(1)  # asks the daemon for more room, or says why there is none
        return self._session.tokens + m <= self._session.grant

    def write(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """The new tokens of one layer."""
        if self._held is not None:
            self._held[layer] = (keys, values)
            return
        slab_keys, slab_values = self._slabs[layer]
        end = self._extents[layer].stop
        slab_keys.narrow(2, end, self._incoming).copy_(keys)
        slab_values.narrow(2, end, self._incoming).copy_(values)

    def view(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The hot view of one layer, recalled rows first, and the new tokens that were written to it."""
        keys, values = self._slabs[layer]
        rows = self._extents[layer]
        if self._held is None:
            length = rows.stop - rows.start + self._incoming
            return keys.narrow(2, rows.start, length), values.narrow(2, rows.start, length)
        if rows.start == rows.stop:
            return self._held[layer]
        new_keys, new_values = self._held[layer]
        return torch.cat((keys[:, :, rows], new_keys), dim=2), torch.cat((values[:, :, rows], new_values), dim=2)

    def past_keys(self, layer: int) -> torch.Tensor:
        """The keys of one layer's hot view."""
        return self._slabs[layer][0][:, :, self._extents[layer]]

    def commit(self, ids: np.ndarray) -> None:
        """Makes the new tokens the session's. ids [m]."""
        if self._held is not None:
            append(self._session, [self._held[layer] for layer in range(len(self._slabs))], ids)
        else:
            self._session.window_ids(self._incoming)[:] = ids
            self._session.commit(self._session.tokens + self._incoming)
        self.abandon()

    def abandon(self) -> None:
        self._incoming, self._held = 0, None

    def rearranged(self) -> None:
        """To be called after a recall, release, truncate or append. The shared memory has it all already."""
        self._extents = self._session.extents()


class DeviceRows:
    """A copy of the hot view on an accelerator.

    It is copied up once. From then on tokens only stream down: new rows are appended here and go to the session when the
    call is done, through pinned memory; when chunks are sealed, the rows to keep are found by their positions and gathered on
    the device. Recalled rows are copied up when they come.

    The slabs themselves are not registered as pinned memory: a seal punches holes into them, and a device would go on reading
    the pages that lay there before.
    """

    _SLACK = 1024  # rows a layer grows by, so that most steps append in place

    def __init__(self, session, device: torch.device) -> None:
        self._session = session
        self._host = SharedRows(session)
        self._device = device
        self._layers = [_DeviceLayer() for _ in range(session.description.layers)]
        self._tokens = -1
        self.rearranged()

    def begin(self, m: int) -> None: ...

    def write(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        self._layers[layer].append(keys, values, self._SLACK)

    def view(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self._layers[layer].view()

    def past_keys(self, layer: int) -> torch.Tensor:
        """The keys of one layer, and behind them those of the call under way."""
        return self._layers[layer].view()[0]

    def commit(self, ids: np.ndarray) -> None:
        session = self._session
        generation = session.generation
        append(session, [layer.newest() for layer in self._layers], ids)
        for index, layer in enumerate(self._layers):
            layer.stay(session.tokens)
            if session.generation != generation:
                layer.keep(session.view(index).positions[:, layer.recalled :])
        self._tokens = session.tokens

    def abandon(self) -> None:
        for layer in self._layers:
            layer.drop()

    def rearranged(self) -> None:
        """Follows a recall, release, truncate or append; a call may be under way, whose new rows stay."""
        self._host.rearranged()
        for index, layer in enumerate(self._layers):
            rows = self._session.extent(index)
            if self._session.tokens != self._tokens:
                layer.load(*self._host.view(index), self._session.view(index).positions, rows, self._device)
            elif rows.start != layer.start:
                layer.recall(*self._host.view(index), rows)
        self._tokens = self._session.tokens


class _DeviceLayer:
    """One layer of DeviceRows: [1, heads, recalled + rows + slack, dim], of which `used` rows are in use, the last `incoming` by
    the call under way. origin: the session's row 0 on its axis of rows."""

    def load(self, keys, values, positions, rows: slice, device) -> None:
        # A session may be opened while tokens are recalled in it only by the one who recalled them: never here.
        self.keys, self.values, self.positions = keys.to(device, copy=True), values.to(device, copy=True), positions.copy()
        self.origin = self.start = rows.start
        self.recalled = self.incoming = 0
        self.used = keys.shape[2]

    def view(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.keys[:, :, : self.used], self.values[:, :, : self.used]

    def append(self, keys: torch.Tensor, values: torch.Tensor, slack: int) -> None:
        end = self.used + keys.shape[2]
        if end > self.keys.shape[2]:
            self.keys, self.values = (
                torch.cat((old, old.new_empty(1, old.shape[1], keys.shape[2] + slack, old.shape[3])), dim=2)
                for old in self.view()
            )
        self.keys[:, :, self.used : end], self.values[:, :, self.used : end] = keys, values
        self.used, self.incoming = end, keys.shape[2]

    def newest(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The rows of the call under way."""
        first = self.used - self.incoming
        return self.keys[:, :, first : self.used], self.values[:, :, first : self.used]

    def drop(self) -> None:
        self.used, self.incoming = self.used - self.incoming, 0

    def stay(self, tokens: int) -> None:
        """The newest rows are now the last of the session's `tokens`."""
        new = np.arange(tokens - self.incoming, tokens, dtype=np.int32)
        self.positions = np.concatenate((self.positions, np.broadcast_to(new, (self.positions.shape[0], len(new)))), axis=1)
        self.incoming = 0

    def keep(self, positions: np.ndarray) -> None:
        """Gathers what a seal left. positions [heads, n]: of the rows that are left, ascending as those before are."""
        kept = np.stack([np.searchsorted(old, new) for old, new in zip(self.positions, positions, strict=True)]) + self.recalled
        left = np.broadcast_to(np.arange(self.recalled), (kept.shape[0], self.recalled))
        index = torch.from_numpy(np.concatenate((left, kept), axis=1)).to(self.keys.device)[None, :, :, None]
        self.keys, self.values = (old.gather(2, index.expand(-1, -1, -1, old.shape[3])) for old in (self.keys, self.values))
        self.positions, self.used = positions.copy(), index.shape[2]

    def recall(self, keys: torch.Tensor, values: torch.Tensor, rows: slice) -> None:
        """The session's view now begins at another row: recalled rows came or went on the left."""
        recalled = self.origin - rows.start
        self.keys, self.values = (
            torch.cat((host[:, :, :recalled].to(old.device), old[:, :, self.recalled : self.used]), dim=2)
            for host, old in ((keys, self.keys), (values, self.values))
        )
        self.used += recalled - self.recalled
        self.start, self.recalled = rows.start, recalled


# Bytes of keys that are on their way to a session at a time, beside their values.
_STAGED = 32 << 20


def append(session, layers: list[tuple[torch.Tensor, torch.Tensor]], ids: np.ndarray) -> None:
    """Appends keys and values [1, heads, n, dim] of every layer of the session, some tokens of all layers at a time: what the
    copy on the way takes does not grow with n. If one piece is refused, those before it are the session's."""
    keys = layers[0][0]
    step = max(1, _STAGED // (len(layers) * keys.shape[1] * keys.shape[3] * keys.element_size()))
    for first in range(0, len(ids), step):
        some = slice(first, first + step)
        of_keys, of_values = (_staged([layer[part][0, :, some] for layer in layers]) for part in (0, 1))
        session.append(of_keys, of_values, ids[some])


def _staged(layers: list[torch.Tensor]) -> np.ndarray:
    """Tensors [heads, n, dim] as one array [layers, heads, n, dim] on the host."""
    device = layers[0].device
    on_gpu = device.type == "cuda"
    staged = torch.empty((len(layers), *layers[0].shape), dtype=layers[0].dtype, pin_memory=on_gpu)
    for place, layer in zip(staged, layers, strict=True):
        place.copy_(layer, non_blocking=on_gpu)
    if on_gpu:
        torch.cuda.current_stream(device).synchronize()
    return (staged.view(torch.uint16) if staged.dtype == torch.bfloat16 else staged).numpy()
