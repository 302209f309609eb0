"""Charts in a terminal of 80 columns, without colour: curves in braille, bars in blocks."""

from __future__ import annotations

import math

import numpy as np

from ropewalk.evaluation.report_chart import (
    Bar,
    BarChart,
    ChartLine,
    LineChart,
    bar_range,
    number,
    value_range,
)
from ropewalk.evaluation.terminal_plots import panel
from ropewalk.wording.terminal import without_control
from ropewalk_plan.rope_spec import FloatArray

WIDTH = 80
_POINTS = 138  # two dots to each column of a curve
_BAR_ROOM = 16  # for the bars at least
_LABEL_ROOM = 34


def line_chart_text(chart: LineChart, *, blocks: bool = True) -> str:
    """A panel for each line, all of the same range, so that they compare from one to the other.

    Args:
        chart: what to draw.
        blocks: whether braille can be shown; without, only the values are.
    """
    unit = f"{chart.y_label} by {chart.x_label}{', logarithmic' if chart.log_y else ''}"
    mark = f" ({chart.mark_label}: {number(chart.mark)})" if chart.mark is not None else ""
    lines = [*_folded(chart.title), *_folded(f"{unit}{mark}")]
    for line in chart.lines:
        lines += [f"  {part}" for part in _folded(line.label, WIDTH - 2)]
        if blocks and len(_finite(chart, line)[0]) > 1:
            lines += _panel(chart, line)
        else:
            lines += [f"    {number(p.x):>10}  {number(p.y)}" for p in line.points]
    return "\n".join(lines)


def bar_chart_text(chart: BarChart, *, blocks: bool = True) -> str:
    """A line for each bar: label, bar, value with interval or note.

    Args:
        chart: what to draw.
        blocks: draw with block characters; else with ASCII.
    """
    labels = [_cut(bar.label + (" *" if bar.marked else ""), _LABEL_ROOM) for bar in chart.bars]
    ends = [_end(bar) for bar in chart.bars]
    left, right = max(map(len, labels), default=0), max(map(len, ends), default=0)
    beside = WIDTH - left - right - 4 >= _BAR_ROOM
    room = max(_BAR_ROOM, WIDTH - left - 2 - (right + 2 if beside else 0))
    lines = [*_folded(chart.title), *_folded(chart.value_label)]
    for bar, label, end in zip(chart.bars, labels, ends, strict=True):
        drawn = _bar(bar.value, bar_range(chart), room, "█#"[not blocks], "│|"[not blocks])
        lines.append(f"{label:<{left}}  {drawn}" + (f"  {end:>{right}}" if beside else ""))
        if not beside:
            lines += [f"{'':<{left}}  {part}" for part in _folded(end, WIDTH - left - 2)]
    if chart.marked_label and any(bar.marked for bar in chart.bars):
        lines += _folded(f"* {chart.marked_label}")
    return "\n".join(line.rstrip() for line in lines)


def _panel(chart: LineChart, line: ChartLine) -> list[str]:
    x, y = _finite(chart, line)
    low, high = value_range(chart)
    even = np.linspace(x[0], x[-1], _POINTS)
    shown = (math.log(low), math.log(high)) if chart.log_y else (low, high)
    curve = np.interp(even, x, np.log(y) if chart.log_y else y)
    return panel(even, curve, *shown, chart.mark, labels=(number(low), number(high)))


def _finite(chart: LineChart, line: ChartLine) -> tuple[FloatArray, FloatArray]:
    points = [p for p in line.points if math.isfinite(p.y) and (p.y > 0 or not chart.log_y)]
    return np.array([p.x for p in points]), np.array([p.y for p in points])


def _bar(value: float, bounds: tuple[float, float], room: int, block: str, axis: str) -> str:
    """A bar from the axis to its value, in `room` columns."""
    low, high = bounds
    columns = room - 1
    zero = round(columns * -low / (high - low))
    if not math.isfinite(value):
        return " " * zero + axis
    length = round(columns * abs(value) / (high - low))
    if value < 0:
        length = min(length, zero)
        return " " * (zero - length) + block * length + axis + " " * (columns - zero)
    length = min(length, columns - zero)
    return " " * zero + axis + block * length + " " * (columns - zero - length)


def _end(bar: Bar) -> str:
    interval = (
        f" ({number(bar.low)} to {number(bar.high)})" if bar.low is not None and bar.high is not None else ""
    )
    note = f" {bar.note}" if bar.note else ""
    return f"{number(bar.value)}{interval}{note}"


def _cut(text: str, width: int) -> str:
    line = _line(text)
    return line if len(line) <= width else f"{line[: width - 1]}~"


def _folded(text: str, width: int = WIDTH) -> list[str]:
    line = _line(text)
    return [line[i : i + width] for i in range(0, len(line), width)] if line else []


def _line(text: str) -> str:
    return " ".join(without_control(text).split())
