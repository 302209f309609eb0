"""Ratios of runs that belong together, and their medians with a spread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.jobs import Speed
from benchmark.rounds import Rounds

Metric = Callable[[Speed], float]


@dataclass(frozen=True)
class Spread:
    """A median, and the quartiles around it."""

    median: float
    lower: float
    upper: float
    count: int

    @property
    def text(self) -> str:
        """`1.02 (1.00 to 1.03)`, as tables have ratios."""
        return f"{self.median:.3f} ({self.lower:.3f} to {self.upper:.3f})"


def spread(values: Sequence[float]) -> Spread:
    """The median and the quartiles (linear between neighbours) of some values, at least one."""
    lower, median, upper = (float(q) for q in np.quantile(np.asarray(values, float), (0.25, 0.5, 0.75)))
    return Spread(median, lower, upper, len(values))


def ratio(rounds: Rounds, name: str, base: str, metric: Metric) -> Spread:
    """How a variant's figure compares with another's: of each round's ratio, the median.

    Rounds are compared within themselves, so what made one round slow made both of its runs slow.
    """
    pairs = zip(rounds.runs[name], rounds.runs[base], strict=True)
    return spread([metric(run) / metric(other) for run, other in pairs])


def middle(rounds: Rounds, name: str, metric: Metric) -> float:
    """The median of a variant's figure over its runs."""
    return spread([metric(run) for run in rounds.runs[name]]).median


def prefill_speed(run: Speed) -> float:
    """Tokens read per second."""
    return run.prefill_speed


def decode_speed(run: Speed) -> float:
    """Tokens written per second, at the end."""
    return run.decode_speed
