"""Charts as a picture, PNG or SVG, drawn by matplotlib (the optional extra `plot`)."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from matplotlib.transforms import offset_copy

from ropewalk.evaluation.picture_style import (
    NOTE_COLOUR,
    drawn,
    house_style,
    line_style,
    marker,
    picture_bytes,
)
from ropewalk.evaluation.report_chart import (
    BarChart,
    LineChart,
    bar_range,
    log_ticks,
    number,
    padded_range,
    tick_label,
    ticks,
    whisker_step,
    x_ticks,
)

_WIDTH = 8.0  # inches
_LINE_HEIGHT = 3.6
_BAR_HEIGHT = 0.24
_LETTERS = 105


def draw_charts(
    charts: Sequence[LineChart | BarChart], picture_format: str, *, title: str, notes: Sequence[str] = ()
) -> bytes:
    """Draw charts one below the other.

    Args:
        charts: at least one.
        picture_format: `png` or `svg`; an SVG of equal charts is equal byte for byte.
        title: stands above.
        notes: lines that stand below.

    Returns:
        The picture file's content.
    """
    below = [part for note in notes for part in textwrap.wrap(note, _LETTERS)]
    above = textwrap.wrap(title, int(_LETTERS * 0.75))
    heights = [_height(chart) for chart in charts]
    with house_style():
        height = sum(heights) + 0.25 * len(above) + 0.16 * len(below) + 0.2
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        figure.suptitle(drawn("\n".join(above)), x=0.01, ha="left", fontsize=12)
        panels = figure.subplots(len(charts), 1, squeeze=False, height_ratios=heights).ravel()
        for axes, chart in zip(panels, charts, strict=True):
            if isinstance(chart, LineChart):
                _draw_lines(figure, axes, chart)
            else:
                _draw_bars(axes, chart)
        if below:
            figure.supxlabel(drawn("\n".join(below)), x=0.01, ha="left", fontsize=8, color=NOTE_COLOUR)
        return picture_bytes(figure, picture_format)


def _height(chart: LineChart | BarChart) -> float:
    if isinstance(chart, LineChart):
        return _LINE_HEIGHT + 0.18 * len(chart.lines)
    return 1.0 + _BAR_HEIGHT * len(chart.bars)


def _draw_lines(figure: Figure, axes: Axes, chart: LineChart) -> None:
    for i, line in enumerate(chart.lines):
        colour, dash = line_style(i)
        points = [p for p in line.points if math.isfinite(p.y) and (p.y > 0 or not chart.log_y)]
        axes.plot(
            [p.x for p in points],
            [p.y for p in points],
            color=colour,
            linestyle=dash,
            linewidth=1.4,
            marker=marker(i),
            markersize=4.5,
            label=drawn(line.label),
        )
        off = whisker_step(chart) * (i - (len(chart.lines) - 1) / 2)
        beside = offset_copy(axes.transData, figure, x=off, units="points")
        for p in points:
            if p.low is not None and p.high is not None and (p.low > 0 or not chart.log_y):
                axes.plot([p.x, p.x], [p.low, p.high], color=colour, linewidth=1.0, transform=beside)
    low, high = padded_range(chart)
    if chart.log_y:
        axes.set_yscale("log")
    axes.yaxis.set_major_locator(FixedLocator(log_ticks(low, high) if chart.log_y else ticks(low, high)))
    axes.set_ylim(low, high)
    axes.yaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_locator(FixedLocator(x_ticks(chart)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: tick_label(value)))
    if chart.mark is not None and _within(chart.mark, chart):
        axes.axvline(chart.mark, color=NOTE_COLOUR, linewidth=1.0, linestyle=(0, (3, 3)))
        axes.annotate(
            chart.mark_label,
            (chart.mark, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(3, -2),
            textcoords="offset points",
            va="top",
            fontsize=8,
            color=NOTE_COLOUR,
        )
    axes.set(title=drawn(_wrapped(chart.title)), xlabel=chart.x_label, ylabel=chart.y_label)
    axes.legend(
        loc="upper left", bbox_to_anchor=(0, 0), borderaxespad=4.6, ncols=2, frameon=False, fontsize=8
    )


def _draw_bars(axes: Axes, chart: BarChart) -> None:
    low, high = bar_range(chart)
    for row, bar in enumerate(chart.bars):
        value = bar.value if math.isfinite(bar.value) else 0.0
        colour = line_style(1 if bar.marked else 0)[0]
        axes.barh(
            row,
            value,
            height=0.66,
            color="#ffffff" if bar.marked else colour,
            edgecolor=colour,
            hatch="////" if bar.marked else None,
        )
        if bar.low is not None and bar.high is not None:
            for colour, width in (("#ffffff", 3.5), ("#000000", 1.2)):  # seen on the bar and beside it
                axes.plot([bar.low, bar.high], [row, row], color=colour, linewidth=width)
        end = max(value, bar.high or value, 0.0)
        words = number(bar.value) + (f"  {bar.note}" if bar.note else "")
        axes.annotate(words, (end, row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=7.5)
    axes.axvline(0.0, color=NOTE_COLOUR, linewidth=0.8)
    axes.set_yticks(range(len(chart.bars)), [drawn(bar.label) for bar in chart.bars], fontsize=8)
    axes.set_ylim(len(chart.bars) - 0.4, -0.6)
    axes.xaxis.set_major_locator(FixedLocator(ticks(low, high)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick_label(value)))
    axes.grid(visible=False, axis="y")
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    marked = f" (hatched: {chart.marked_label})" if any(bar.marked for bar in chart.bars) else ""
    axes.set(title=drawn(_wrapped(chart.title + marked)), xlabel=chart.value_label)


def _within(x: float, chart: LineChart) -> bool:
    xs = [point.x for line in chart.lines for point in line.points]
    return min(xs, default=x) <= x <= max(xs, default=x)


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.wrap(text, _LETTERS))
