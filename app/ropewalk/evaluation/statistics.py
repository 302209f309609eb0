"""How sure a share of hits is: Wilson's score interval (1927), good for few trials and for no hit at all."""

from __future__ import annotations

import math
from dataclasses import dataclass

Z_95 = 1.959964
"""The normal quantile of a two-sided 95% interval."""


@dataclass(frozen=True)
class Interval:
    """Bounds of a probability, 0 to 1."""

    low: float
    high: float


@dataclass(frozen=True)
class Accuracy:
    """Hits among trials.

    Attributes:
        hits: from 0 to `trials`.
        trials: how many were made.
    """

    hits: int
    trials: int

    @property
    def share(self) -> float:
        """Hits by trials; NaN where there were none."""
        return self.hits / self.trials if self.trials else math.nan

    @property
    def interval(self) -> Interval:
        """The 95% Wilson interval of the probability of a hit."""
        return wilson(self.hits, self.trials)

    @property
    def percent(self) -> str:
        """The share as `78%`; 100% and 0% are all and none, and nothing that is rounded to them."""
        if 0 < self.hits < self.trials:
            return f"{min(max(round(100 * self.share), 1), 99)}%"
        return f"{self.share:.0%}"

    @property
    def words(self) -> str:
        """`7/9, 78% (45% to 94%)`: counts, share, interval."""
        if not self.trials:
            return "none tried"
        low, high = self.interval.low, self.interval.high
        return f"{self.hits}/{self.trials}, {self.percent} ({low:.0%} to {high:.0%})"

    def __add__(self, other: Accuracy) -> Accuracy:
        """The accuracy of both together."""
        return Accuracy(self.hits + other.hits, self.trials + other.trials)

    def as_json(self) -> dict[str, float | int | None]:
        """Counts, share and interval, as every results file has them; null is a share of nothing."""
        return {
            "hits": self.hits,
            "trials": self.trials,
            "share": self.share if self.trials else None,
            "low": self.interval.low,
            "high": self.interval.high,
        }


def wilson(hits: int, trials: int, z: float = Z_95) -> Interval:
    """The probabilities p that the counts do not contradict.

    They are those with `(hits/trials - p)^2 <= z^2 p (1 - p) / trials`.

    Args:
        hits: from 0 to `trials`.
        trials: 0 gives the interval from 0 to 1: nothing is known.
        z: the normal quantile, 1.96 for 95%.

    Raises:
        ValueError: the counts are none.
    """
    if not 0 <= hits <= trials:
        raise ValueError(f"{hits} hits of {trials} trials cannot be.")
    if trials == 0:
        return Interval(0.0, 1.0)
    centre = hits + z * z / 2
    spread = z * math.sqrt(hits * (trials - hits) / trials + z * z / 4)
    # the bounds that are exactly 0 and 1 are so, not within a rounding of it
    low = 0.0 if hits == 0 else (centre - spread) / (trials + z * z)
    high = 1.0 if hits == trials else (centre + spread) / (trials + z * z)
    return Interval(low, high)
