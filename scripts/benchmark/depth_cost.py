"""What a token costs at a depth, and what windows can save of it: plain arithmetic on measured times.

A token's time is `a + b n`, n the cells of the KV cache that its attention goes over: every backend computes
whole blocks of cells, masked or not. Where some layers go over fewer cells, the mean over the layers counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from benchmark.jobs import Piece

CELL_BLOCK = 256
"""llama.cpp goes over cells in multiples of this, and makes caches of such sizes."""


@dataclass(frozen=True)
class DepthCost:
    """Seconds per token: `fixed + per_cell * n`."""

    fixed: float
    per_cell: float

    def seconds(self, cells: float) -> float:
        """The cost of a token whose attention goes over so many cells."""
        return self.fixed + self.per_cell * cells


def fit(points: Sequence[tuple[float, float]]) -> DepthCost:
    """The line through (cells, seconds per token): the median of all slopes, then of the remainders.

    Theil's and Sen's estimator: a few chunks during which the machine did something else do not turn it.

    Raises:
        ValueError: fewer than two different depths.
    """
    slopes = [(t1 - t0) / (n1 - n0) for (n0, t0), (n1, t1) in combinations(points, 2) if n1 != n0]
    if not slopes:
        raise ValueError("a cost per depth needs measurements at two depths at least")
    per_cell = float(np.median(slopes))
    return DepthCost(float(np.median([t - per_cell * n for n, t in points])), per_cell)


def medians_by_depth(runs: Sequence[Sequence[Piece]]) -> list[Piece]:
    """Runs of the same pieces as one: each piece's median time."""
    return [
        Piece(same[0].depth, same[0].tokens, float(np.median([piece.seconds for piece in same])))
        for same in zip(*runs, strict=True)
    ]


def round_up(cells: int) -> int:
    """To whole blocks of cells."""
    return -(-cells // CELL_BLOCK) * CELL_BLOCK


def cells_of(piece: Piece, cache: int) -> int:
    """Cells that the attention of a piece's last token goes over, in a cache of so many cells."""
    return min(cache, round_up(piece.depth + piece.tokens))


def window_cache(window: int, sinks: int, n_ubatch: int, n_ctx: int) -> int:
    """Cells of the cache that layers of one window share: what is seen, and a micro-batch."""
    return n_ctx if window == 0 else round_up(min(n_ctx, window + sinks + n_ubatch))


@dataclass(frozen=True)
class Layers:
    """The cells that each layer's cache has.

    Attributes:
        caches: one number per layer.
    """

    caches: tuple[int, ...]

    def mean_cells(self, piece: Piece) -> float:
        """Cells that a layer goes over for a piece's tokens, on average over the layers."""
        return float(np.mean([cells_of(piece, cache) for cache in self.caches]))

    def share_of(self, n_ctx: int) -> float:
        """All cells, of those that as many layers with whole caches have."""
        return sum(self.caches) / (len(self.caches) * n_ctx)


def seconds_for(cost: DepthCost, layers: Layers, pieces: Sequence[Piece]) -> float:
    """What some pieces cost by this arithmetic."""
    return sum(piece.tokens * cost.seconds(layers.mean_cells(piece)) for piece in pieces)


def allowed_speed_up(cost: DepthCost, whole: Layers, windowed: Layers, pieces: Sequence[Piece]) -> float:
    """How many times as fast windows can be, if all that changes is the cells that attention goes over."""
    return seconds_for(cost, whole, pieces) / seconds_for(cost, windowed, pieces)
