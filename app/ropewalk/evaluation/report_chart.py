"""Charts as numbers, for whatever draws them: the terminal, a page, matplotlib."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

_ROOM = 0.04  # of the range, below and above it


@dataclass(frozen=True)
class Point:
    """A measured value.

    Attributes:
        x: where.
        y: the value.
        low: lower bound of its 95% interval; None where there is none.
        high: upper bound.
    """

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class ChartLine:
    """The values of one method, with rising x."""

    label: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class LineChart:
    """Values over something, such as perplexity over length.

    Attributes:
        title: what is shown.
        x_label: what is to the right, with its unit.
        y_label: what is upwards, with its unit.
        lines: one for each method.
        log_y: whether equal ratios have equal heights; only for values above 0.
        mark: an x at which a vertical line stands, such as the train length; None for none.
        mark_label: what it is.
    """

    title: str
    x_label: str
    y_label: str
    lines: tuple[ChartLine, ...]
    log_y: bool = False
    mark: float | None = None
    mark_label: str = ""


@dataclass(frozen=True)
class Bar:
    """One value among several.

    Attributes:
        label: whose it is.
        value: the length of the bar, to the left where it is negative.
        low: lower bound of its 95% interval; None where there is none.
        high: upper bound.
        marked: whether it is one of those that are told apart, as the title says.
        note: what stands behind it, such as counts.
    """

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    marked: bool = False
    note: str = ""


@dataclass(frozen=True)
class BarChart:
    """Values side by side, such as the sensitivity of layers.

    Attributes:
        title: what is shown.
        value_label: what the values are, with their unit.
        bars: from top to bottom.
        marked_label: what marked bars have in common; empty where none is.
    """

    title: str
    value_label: str
    bars: tuple[Bar, ...]
    marked_label: str = ""


def value_range(chart: LineChart) -> tuple[float, float]:
    """The lowest and the highest finite y, intervals included; a little apart where they are one.

    Without a logarithm, it includes 0 where that is near: a range from 95 to 100 is no fall to nothing.
    """
    numbers = [
        value
        for line in chart.lines
        for point in line.points
        for value in (point.y, point.low, point.high)
        if value is not None and math.isfinite(value) and (value > 0 or not chart.log_y)
    ]
    if not numbers:
        return (1.0, 10.0) if chart.log_y else (0.0, 1.0)
    low, high = min(numbers), max(numbers)
    if not chart.log_y and 0 < low < 0.5 * high:
        low = 0.0
    if low == high:
        return (low / 2, high * 2) if chart.log_y else (low - 0.5, high + 0.5)
    return low, high


def padded_range(chart: LineChart) -> tuple[float, float]:
    """`value_range` with a little room below and above, but not below an axis at 0."""
    low, high = value_range(chart)
    if chart.log_y:
        room = (high / low) ** _ROOM
        return low / room, high * room
    room = _ROOM * (high - low)
    return (low if low == 0 else low - room), high + room


def whisker_step(chart: LineChart) -> float:
    """Points between the intervals of neighbouring lines at one x, so that they stand beside each other."""
    return min(2.5, 9.0 / max(1, len(chart.lines)))


def bar_range(chart: BarChart) -> tuple[float, float]:
    """The range of a bar chart's values, 0 and intervals included."""
    numbers = [
        value
        for bar in chart.bars
        for value in (bar.value, bar.low, bar.high)
        if value is not None and math.isfinite(value)
    ]
    low, high = min([0.0, *numbers]), max([0.0, *numbers])
    return (low, high) if low < high else (0.0, 1.0)


def ticks(low: float, high: float, at_most: int = 6) -> list[float]:
    """Round numbers from `low` to `high`, in steps of 1, 2 or 5 times a power of ten."""
    if not low < high:
        return [low]
    power = 10.0 ** math.floor(math.log10((high - low) / at_most))
    steps = (multiple * power for multiple in (1, 2, 5, 10, 20))
    step = next(step for step in steps if _count(low, high, step) <= at_most)
    first = math.ceil(low / step - 1e-9)
    return [round((first + i) * step, 12) + 0.0 for i in range(_count(low, high, step))]


def _count(low: float, high: float, step: float) -> int:
    """How many multiples of a step there are from `low` to `high`."""
    return math.floor(high / step + 1e-9) - math.ceil(low / step - 1e-9) + 1


def log_ticks(low: float, high: float, at_most: int = 6) -> list[float]:
    """Round numbers from `low` to `high`, above 0, evenly spread in the logarithm where that can be."""
    for multiples in ((1, 2, 5), (1, 3), (1,)):
        powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
        found = [m * 10.0**p for p in powers for m in multiples if low <= m * 10.0**p <= high]
        if 2 <= len(found) <= at_most:
            return found
        if len(found) < 2:
            return ticks(low, high, at_most)
    every = -(-len(found) // at_most)
    return found[::every]


def x_ticks(chart: LineChart, at_most: int = 7) -> list[float]:
    """The xs that were measured where they are few and apart, else round numbers."""
    xs = sorted({point.x for line in chart.lines for point in line.points})
    if len(xs) <= at_most and _apart(xs):
        return xs
    return ticks(xs[0], xs[-1], at_most) if xs else []


def _apart(xs: Sequence[float]) -> bool:
    width = xs[-1] - xs[0] if xs else 0.0
    return all(after - before >= 0.1 * width for before, after in itertools.pairwise(xs))


def tick_label(value: float) -> str:
    """A round number at an axis: `12,000`, `0.2`."""
    return f"{value:,.6g}"


def number(value: float) -> str:
    """A value in few characters: `12,000`, `8.53`, `0.0012`, `1.2e+09`."""
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e7:
        return f"{value:,.0f}"
    if abs(value) >= 1e7 or 0 < abs(value) < 1e-3:
        return f"{value:.3g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"
