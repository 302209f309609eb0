"""A race over the cells of a retrieval test, in which no cell is asked that cannot change who wins.

Every candidate is to answer the same cells. The next one goes to the candidate that has missed least so far,
and of those to the one that has answered most: so whoever hits everything is asked everything at once, and
whoever misses waits until the others have missed as often. The race ends when nobody who still has cells to
answer can end more than `tolerance` hits above the best one who has none. So the winner has at least the hits
of the best of all, less `tolerance`, as if all had answered every cell. One hit is much where the best
has none: then whoever may still hit is asked on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

TOLERANCE = 1
"""Hits that are no difference: of six cells, five and six are within each other's 95% interval by far."""


@dataclass(frozen=True)
class Standing:
    """How one candidate stands.

    Attributes:
        label: the candidate.
        hits: cells that it has answered right.
        misses: cells that it has answered wrong.
    """

    label: str
    hits: int = 0
    misses: int = 0

    @property
    def asked(self) -> int:
        """Cells that it has answered."""
        return self.hits + self.misses


class Race:
    """Who is asked next, and who has won."""

    def __init__(
        self,
        order: Sequence[str],
        cells: int,
        *,
        plain: str | None = None,
        plain_wins_ties: bool = True,
        tolerance: int = TOLERANCE,
    ) -> None:
        """A race of which nothing is known yet.

        Args:
            order: the candidates, the most promising first, which is asked first of equals.
            cells: how many each is to answer.
            plain: the one that is asked until it surely cannot win: no other is to win that is worse than it.
            plain_wins_ties: whether it wins with as many hits as another.
            tolerance: hits that are no difference between the others.
        """
        self._standings = {label: Standing(label) for label in order}
        self._rank = {label: rank for rank, label in enumerate(order)}
        self._cells, self._tolerance = cells, tolerance
        self._plain, self._plain_wins_ties = plain, plain_wins_ties

    @property
    def standings(self) -> tuple[Standing, ...]:
        """Everyone's, in the order given."""
        return tuple(self._standings.values())

    @property
    def cells(self) -> int:
        """How many each is to answer."""
        return self._cells

    def next(self) -> str | None:
        """Who answers the next cell; None where the race is decided."""
        unfinished = [standing for standing in self.standings if standing.asked < self._cells]
        finished = [standing for standing in self.standings if standing.asked == self._cells]
        if finished:
            least = min(standing.misses for standing in finished)
            unfinished = [standing for standing in unfinished if self._may_win(standing, least)]
        if not unfinished:
            return None
        return min(unfinished, key=lambda s: (s.misses, -s.asked, self._rank[s.label])).label

    def asked(self, label: str) -> int:
        """Cells that a candidate has answered."""
        return self._standings[label].asked

    def note(self, label: str, hit: bool) -> None:
        """Take an answer."""
        old = self._standings[label]
        self._standings[label] = replace(old, hits=old.hits + hit, misses=old.misses + (not hit))

    def best(self) -> Standing:
        """Who has won, or who leads where the race was broken off.

        The winner has answered every cell. A leader has the largest share of hits, as a rule of succession
        has it, `(hits + 1) / (asked + 2)`: two of two lead before one of one, and both before two of three.
        """
        won = self.next() is None
        return max(
            (standing for standing in self.standings if not won or standing.asked == self._cells),
            key=lambda s: (
                (s.hits + 1) / (s.asked + 2),
                self._plain_wins_ties and s.label == self._plain,
                -self._rank[s.label],
            ),
        )

    def at_most(self, label: str) -> int:
        """The hits that a candidate can end with."""
        return self._cells - self._standings[label].misses

    def _may_win(self, standing: Standing, least_misses: int) -> bool:
        if standing.label == self._plain:
            return standing.misses < least_misses + self._plain_wins_ties
        if least_misses == self._cells:
            return True  # it can still hit, which the best one never did
        return standing.misses + self._tolerance < least_misses
