"""What attention reads: one layer's keys, values and positions."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .shared import ControlFile, fence


@dataclass(frozen=True, slots=True)
class View:
    """The hot view of one layer: recalled tokens first, then sink, kept and window, in temporal order.

    The arrays of ``Session.view`` lie in the shared memory itself, read-only and without a copy; they mean what they say
    while ``valid`` is true. Those of ``Session.read`` are copies and stay.

    Attributes:
        keys: [heads, n, key_dim]
        values: [heads, n, value_dim]
        positions: int32 [heads, n], the position of every token in its session
        tokens: the logical length of the session that the view belongs to
    """

    keys: np.ndarray
    values: np.ndarray
    positions: np.ndarray
    tokens: int
    _generation: int = field(repr=False)
    _control: ControlFile | None = field(repr=False)

    @property
    def valid(self) -> bool:
        """Whether the daemon has left the layout alone since the view was taken: then what was read from it until now
        is right. Always true of a copy. Costs one load."""
        if self._control is None:
            return True
        fence()
        return self._control.generation == self._generation

    def copy(self) -> View:
        """The same view in memory of its own. Right only if ``valid`` is still true afterwards; ``Session.read`` sees to
        that."""
        return View(self.keys.copy(), self.values.copy(), self.positions.copy(), self.tokens, self._generation, None)

    def __len__(self) -> int:
        """The rows of the view: tokens of each head that are in memory."""
        return self.keys.shape[1]

    def __repr__(self) -> str:
        heads, rows, dim = self.keys.shape
        kind = "copy" if self._control is None else "valid" if self.valid else "no longer valid"
        return f"<lagkv.View: {heads} heads × {rows:,} rows × ({dim}+{self.values.shape[2]}) of {self.tokens:,} tokens, {kind}>"
