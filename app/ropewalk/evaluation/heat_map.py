"""Hits by length and depth: the numbers of a heat map, one map for each method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ropewalk.evaluation.retrieval import RetrievalResult
from ropewalk.evaluation.statistics import Accuracy

LEVELS = 5
"""Steps of shading: none hit, up to a third, up to two thirds, less than all, all."""

_NOTHING = Accuracy(0, 0)


@dataclass(frozen=True)
class HeatMap:
    """One method's hits.

    Attributes:
        method: the plan's label.
        lengths: the rows, in tokens, rising.
        depths: the columns, from 0 (start) to 1 (end), rising.
        cells: hits and trials of the cells that were tried.
    """

    method: str
    lengths: tuple[int, ...]
    depths: tuple[float, ...]
    cells: Mapping[tuple[int, float], Accuracy]

    def at(self, length: int, depth: float) -> Accuracy:
        """A cell's hits and trials; 0 of 0 where nothing was tried."""
        return self.cells.get((length, depth), _NOTHING)

    def of_length(self, length: int) -> Accuracy:
        """All depths of a length together."""
        return sum((self.at(length, depth) for depth in self.depths), _NOTHING)

    def of_depth(self, depth: float) -> Accuracy:
        """All lengths of a depth together."""
        return sum((self.at(length, depth) for length in self.lengths), _NOTHING)

    @property
    def total(self) -> Accuracy:
        """All cells together."""
        return sum(self.cells.values(), _NOTHING)


def heat_maps(
    results: Iterable[RetrievalResult],
    *,
    methods: Sequence[str] = (),
    lengths: Sequence[int] = (),
    depths: Sequence[float] = (),
) -> tuple[HeatMap, ...]:
    """A map for each method, all with the same rows and columns.

    Args:
        results: as many as there are, so a map can be drawn while the test goes on.
        methods: those to come, in their order, where not all have results yet.
        lengths: likewise.
        depths: likewise.
    """
    results = list(results)
    rows = tuple(sorted({*lengths, *(result.length for result in results)}))
    columns = tuple(sorted({*depths, *(result.depth for result in results)}))
    cells: dict[str, dict[tuple[int, float], Accuracy]] = {method: {} for method in methods}
    for result in results:
        of_method = cells.setdefault(result.method, {})
        place = (result.length, result.depth)
        of_method[place] = of_method.get(place, _NOTHING) + Accuracy(int(result.hit), 1)
    return tuple(HeatMap(method, rows, columns, found) for method, found in cells.items())


def level(accuracy: Accuracy) -> int | None:
    """The step of shading of a cell, from 0 (none hit) to 4 (all); None where nothing was tried.

    Only "all" and "none" have the outermost steps, so that no miss and no hit is lost in the shading.
    """
    hits, trials = accuracy.hits, accuracy.trials
    if trials == 0:
        return None
    if hits in (0, trials):
        return LEVELS - 1 if hits else 0
    return 1 if 3 * hits <= trials else 2 if 3 * hits <= 2 * trials else 3


def depth_label(depth: float) -> str:
    """A depth in little room: `0`, `0.1`, `0.333`."""
    return f"{depth:.3g}"
