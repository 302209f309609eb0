"""The effective context window: how far back a model still finds what it was told.

Chen et al. (2023, "Extending Context Window of Large Language Models via Positional Interpolation", section
3.3) hide a passkey k tokens before the end of the input and report k_max, "the maximum k such that, for all
k' <= k, the model has a success rate of at least 20% on k'". They have one window for a model; where prompts
of several lengths were tried, a longer prompt does not count against what holds in a shorter one: here k_max
is the longest distance k, in prompts of n tokens, such that the share holds at k and at every shorter
distance tried in prompts of at most n tokens.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ropewalk.evaluation.retrieval import RetrievalResult
from ropewalk.evaluation.statistics import Accuracy
from ropewalk.wording.quantities import count

SHARE = 0.2
"""The success rate of the paper."""


@dataclass(frozen=True)
class Cell:
    """What came of all trials of one length and depth.

    Attributes:
        length: prompt length asked for, in tokens.
        distance: tokens from what is hidden to the prompt's end; of several trials, the shortest.
        accuracy: hits and trials.
    """

    length: int
    distance: int
    accuracy: Accuracy

    @property
    def words(self) -> str:
        """`3,600 tokens back in prompts of 4,000: 3/3, 100% (44% to 100%)`."""
        distance = count(self.distance, "token")
        return f"{distance} back in prompts of {self.length:,}: {self.accuracy.words}"


@dataclass(frozen=True)
class EffectiveWindow:
    """How far back one method's retrieval reaches.

    Attributes:
        method: the plan's label.
        share: the least share of hits.
        reached: the cell of k_max; None where already the nearest ones tried fail.
        fails_at: of the cells that fail, the nearest in the shortest prompts; None where all hold.
        farthest: the longest distance at which the share holds, whatever fails before; None where none does.
        trials: trials in all.
    """

    method: str
    share: float
    reached: Cell | None
    fails_at: Cell | None
    farthest: Cell | None
    trials: int

    @property
    def tokens(self) -> int:
        """k_max in tokens, 0 where nothing is reached."""
        return 0 if self.reached is None else self.reached.distance

    @property
    def words(self) -> str:
        """What was found, in a sentence without a full stop."""
        if self.reached is None:
            return (
                f"not reached; fails already at {self.fails_at.words}" if self.fails_at else "nothing tried"
            )
        if self.fails_at is None:
            return f"at least {self.reached.words}; nothing tried fails"
        return f"{self.reached.words}; fails at {self.fails_at.words}"

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {
            "method": self.method,
            "effective_window": self.tokens,
            "least_share": self.share,
            "reached": _cell_json(self.reached),
            "fails_at": _cell_json(self.fails_at),
            "farthest": _cell_json(self.farthest),
            "trials": self.trials,
        }


def effective_context_window(
    results: Iterable[RetrievalResult], share: float = SHARE
) -> tuple[EffectiveWindow, ...]:
    """The effective window of every method, in the order in which the results name them.

    Args:
        results: of one test.
        share: the least share of hits that counts as finding.
    """
    by_method: dict[str, list[RetrievalResult]] = {}
    for result in results:
        by_method.setdefault(result.method, []).append(result)
    return tuple(_window(method, _cells(rows), share) for method, rows in by_method.items())


def _window(method: str, cells: list[Cell], share: float) -> EffectiveWindow:
    holding = [cell for cell in cells if cell.accuracy.share >= share]
    failing = [cell for cell in cells if cell.accuracy.share < share]

    def holds_up_to(cell: Cell) -> bool:
        return not any(f.distance <= cell.distance and f.length <= cell.length for f in failing)

    return EffectiveWindow(
        method=method,
        share=share,
        reached=max(filter(holds_up_to, holding), key=_by_distance, default=None),
        fails_at=min(failing, key=lambda cell: (cell.length, cell.distance), default=None),
        farthest=max(holding, key=_by_distance, default=None),
        trials=sum(cell.accuracy.trials for cell in cells),
    )


def _by_distance(cell: Cell) -> tuple[int, int]:
    return cell.distance, cell.length


def _cells(results: Iterable[RetrievalResult]) -> list[Cell]:
    by_cell: dict[tuple[int, float], list[RetrievalResult]] = {}
    for result in results:
        by_cell.setdefault((result.length, result.depth), []).append(result)
    return [
        Cell(
            length,
            min(result.distance for result in rows),
            Accuracy(sum(result.hit for result in rows), len(rows)),
        )
        for (length, _), rows in by_cell.items()
    ]


def _cell_json(cell: Cell | None) -> dict[str, Any] | None:
    if cell is None:
        return None
    return {"length": cell.length, "distance": cell.distance, **cell.accuracy.as_json()}
