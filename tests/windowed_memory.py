"""The float64 memory of several sequences with a window in each layer: the oracle for windows and sinks.

It never evicts: every cell stays until somebody removes it, and a window is a mask, read from the definition.
Layer l at position p sees the keys at positions p0 <= p with p - p0 < w_l or p0 < n, n the sinks; all of
them where w_l is 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reference_memory import InForce, ReferenceMemory
from reference_transformer import Float64, Positions, plain_frequencies
from tiny_models import TinyModel


def as_trained(model: TinyModel) -> InForce:
    """RoPE without a plan: angle m * theta_i in every layer."""
    theta = plain_frequencies(model)
    return lambda layer, m: Positions(np.outer(m, theta))


class WindowedMemory(ReferenceMemory):
    """Cells of several sequences, read through windows."""

    def __init__(
        self,
        model: TinyModel,
        windows: Sequence[int],
        sinks: int = 0,
        in_force: InForce | None = None,
    ) -> None:
        """No cells; `in_force` is what a plan makes of positions, RoPE as trained where it is None."""
        super().__init__(model, in_force or as_trained(model))
        self._windows = tuple(windows)
        self._sinks = sinks

    def read(self, tokens: Sequence[int], start: int = 0, sequence: int = 0) -> Float64:
        """Logits of one sequence's next tokens, [tokens, vocabulary]."""
        return self.logits(self.decode(tokens, start, sequence))

    def duplicate(self, source: int, target: int) -> None:
        """`target`, which is empty, gets cells of its own like those of `source`: another stream's copies."""
        mine = [source in members for members in self._members]
        self._positions = np.concatenate([self._positions, self._positions[mine]])
        self._members += [{target} for is_mine in mine if is_mine]
        self._keys = [np.concatenate([keys, keys[mine]]) for keys in self._keys]
        self._values = [np.concatenate([values, values[mine]]) for values in self._values]

    def _layer(self, layer: int, hidden: Float64, mask: Float64) -> Float64:
        return super()._layer(layer, hidden, np.where(self._in_window(layer, len(hidden)), mask, -np.inf))

    def _in_window(self, layer: int, n_queries: int) -> np.ndarray:
        """[queries, cells]; the queries are the newest cells."""
        window = self._windows[layer]
        if window == 0:
            return np.ones((n_queries, len(self._positions)), dtype=bool)
        distance = self._positions[-n_queries:, None] - self._positions[None, :]
        return np.asarray((distance < window) | (self._positions[None, :] < self._sinks))


def windowed_logits(
    model: TinyModel,
    tokens: Sequence[int],
    windows: Sequence[int],
    sinks: int = 0,
    in_force: InForce | None = None,
) -> Float64:
    """Logits of every token, [tokens, vocabulary], of one pass over one sequence."""
    return WindowedMemory(model, windows, sinks, in_force).read(tokens)
