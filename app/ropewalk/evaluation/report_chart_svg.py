"""Charts as SVG within a page, whose style sheet gives them their colours, for light, dark and paper."""

from __future__ import annotations

import math
from collections.abc import Callable
from html import escape

from ropewalk.evaluation.report_chart import (
    BarChart,
    ChartLine,
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

SERIES = 6
"""Colours there are for lines; the seventh line has the first again, with another dash and marker."""

_WIDTH, _PLOT_HEIGHT = 720, 300
_LEFT, _RIGHT, _TOP, _BELOW = 72, 16, 14, 46
_LEGEND_ROW, _BAR_ROW = 20, 20
_LETTER = 7.0  # the width of one at 12 px, at most about
_DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 2", "10 3 2 3 2 3", "3 5")

Scale = Callable[[float], float]


def line_chart_svg(chart: LineChart, identity: str) -> str:
    """A line chart as an `svg` element with a title and a description for those who do not see it.

    Args:
        chart: what to draw; values that are not finite leave a gap.
        identity: begins the ids of its parts, other in each picture of a page.
    """
    low, high = padded_range(chart)
    xs = sorted({point.x for line in chart.lines for point in line.points}) or [0.0]
    across = _scale(xs[0], xs[-1], _LEFT + 8, _WIDTH - _RIGHT - 8)
    bottom = _TOP + _PLOT_HEIGHT
    up = _log_scale(low, high, bottom, _TOP) if chart.log_y else _scale(low, high, bottom, _TOP)
    parts = []
    for tick in log_ticks(low, high) if chart.log_y else ticks(low, high):
        y = up(tick)
        parts.append(_segment("grid", _LEFT, y, _WIDTH - _RIGHT, y))
        parts.append(_label(_LEFT - 8, y + 4, tick_label(tick), "end"))
    for tick in x_ticks(chart):
        parts.append(_segment("axis", across(tick), bottom, across(tick), bottom + 5))
        parts.append(_label(across(tick), bottom + 19, tick_label(tick), "middle"))
    parts.append(_segment("axis", _LEFT, bottom, _WIDTH - _RIGHT, bottom))
    parts.append(_label((_LEFT + _WIDTH) / 2, bottom + 38, chart.x_label, "middle"))
    parts.append(
        f'<text class="label" transform="translate(14 {_px((_TOP + bottom) / 2)}) rotate(-90)" '
        f'text-anchor="middle">{escape(chart.y_label)}</text>'
    )
    if chart.mark is not None and xs[0] <= chart.mark <= xs[-1]:
        x = across(chart.mark)
        parts.append(_segment("mark", x, _TOP, x, bottom))
        anchor, off = ("end", -5) if x > _WIDTH * 0.7 else ("start", 5)
        parts.append(_label(x + off, _TOP + 10, chart.mark_label, anchor))
    for i, line in enumerate(chart.lines):
        beside = whisker_step(chart) * (i - (len(chart.lines) - 1) / 2)
        parts += _line(line, i, across, up, log_y=chart.log_y, beside=beside)
    legend, height = _legend(chart, bottom + _BELOW)
    described = "; ".join(
        f"{line.label}: " + ", ".join(f"{number(p.y)} at {number(p.x)}" for p in line.points)
        for line in chart.lines
    )
    description = f"{chart.y_label} by {chart.x_label}. {described}."
    return _svg(identity, chart.title, description, height, [*parts, *legend])


def bar_chart_svg(chart: BarChart, identity: str) -> str:
    """A bar chart, bars lying, as an `svg` element (see `line_chart_svg`)."""
    low, high = bar_range(chart)
    left = min(280.0, 12 + _LETTER * max((len(bar.label) for bar in chart.bars), default=0))
    ends = [number(bar.value) + (f"  {bar.note}" if bar.note else "") for bar in chart.bars]
    right = min(260.0, 16 + _LETTER * max(map(len, ends), default=0))
    across = _scale(low, high, left + 4, _WIDTH - right)
    bottom = 8 + _BAR_ROW * len(chart.bars)
    parts = []
    for tick in ticks(low, high):
        x = across(tick)
        parts.append(_segment("grid", x, 4, x, bottom))
        parts.append(_label(x, bottom + 16, tick_label(tick), "middle"))
    for i, (bar, end) in enumerate(zip(chart.bars, ends, strict=True)):
        y = 8 + _BAR_ROW * i
        parts.append(_label(left - 4, y + 13, _cut(bar.label, left), "end"))
        value = bar.value if math.isfinite(bar.value) else 0.0
        x, width = min(across(0), across(value)), abs(across(value) - across(0))
        kind = "bar marked" if bar.marked else "bar"
        parts.append(
            f'<rect class="{kind}" x="{_px(x)}" y="{y + 3}" width="{_px(width)}" height="{_BAR_ROW - 6}"/>'
        )
        if bar.low is not None and bar.high is not None:
            ends_of_it = (across(bar.low), y + _BAR_ROW / 2, across(bar.high), y + _BAR_ROW / 2)
            parts += [_segment("halo", *ends_of_it), _segment("interval", *ends_of_it)]
        parts.append(_label(_WIDTH - right + 8, y + 13, _cut(end, right), "start"))
    parts.append(_segment("axis", across(0), 4, across(0), bottom))
    parts.append(_label((left + _WIDTH - right) / 2, bottom + 36, chart.value_label, "middle"))
    height = bottom + 46
    if chart.marked_label and any(bar.marked for bar in chart.bars):
        parts.append(f'<rect class="bar marked" x="4" y="{height}" width="22" height="12"/>')
        parts.append(_label(32, height + 10, chart.marked_label, "start"))
        height += _LEGEND_ROW
    described = ", ".join(f"{bar.label} {end}" for bar, end in zip(chart.bars, ends, strict=True))
    return _svg(identity, chart.title, f"{chart.value_label}. {described}.", height, parts)


def _line(line: ChartLine, index: int, across: Scale, up: Scale, *, log_y: bool, beside: float) -> list[str]:
    kind = f"series s{index % SERIES}"
    parts: list[str] = []
    run: list[str] = []
    for point in line.points:
        if not math.isfinite(point.y) or (log_y and point.y <= 0):
            parts += _path(run, kind, index)
            run = []
            continue
        x, y = across(point.x), up(point.y)
        run.append(f"{_px(x)} {_px(y)}")
        if point.low is not None and point.high is not None and not (log_y and point.low <= 0):
            ends = (x + beside, up(point.low), x + beside, up(point.high))
            parts.append(_segment(f"whisker {kind}", *ends))
        parts.append(_marker(x, y, index))
    return [*parts, *_path(run, kind, index)]


def _path(run: list[str], kind: str, index: int) -> list[str]:
    if len(run) < 2:
        return []
    return [f'<path class="{kind}"{_dash(index)} d="M{" L".join(run)}"/>']


def _dash(index: int) -> str:
    dash = _DASHES[index % len(_DASHES)]
    return f' stroke-dasharray="{dash}"' if dash else ""


def _marker(x: float, y: float, index: int) -> str:
    kind = f"dot s{index % SERIES}"
    if index % 4 == 0:
        return f'<circle class="{kind}" cx="{_px(x)}" cy="{_px(y)}" r="4"/>'
    shapes = (
        ((-3.5, -3.5), (3.5, -3.5), (3.5, 3.5), (-3.5, 3.5)),
        ((0, -4.6), (4.4, 3.6), (-4.4, 3.6)),
        ((0, -5), (5, 0), (0, 5), (-5, 0)),
    )
    corners = " ".join(f"{_px(x + dx)},{_px(y + dy)}" for dx, dy in shapes[index % 4 - 1])
    return f'<polygon class="{kind}" points="{corners}"/>'


def _legend(chart: LineChart, top: float) -> tuple[list[str], float]:
    """Samples of all lines with their labels, in rows, and where the picture ends."""
    parts: list[str] = []
    x, y = float(_LEFT), top + 10
    for i, line in enumerate(chart.lines):
        label = _cut(line.label, _WIDTH - _LEFT - 60)
        width = 50 + _LETTER * len(label)
        if x > _LEFT and x + width > _WIDTH:
            x, y = float(_LEFT), y + _LEGEND_ROW
        parts.append(
            f'<path class="series s{i % SERIES}"{_dash(i)} d="M{_px(x)} {_px(y)} L{_px(x + 28)} {_px(y)}"/>'
        )
        parts += [_marker(x + 14, y, i), _label(x + 34, y + 4, label, "start")]
        x += width
    return parts, y + 14


def _svg(identity: str, title: str, description: str, height: float, parts: list[str]) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_px(height)}" role="img" '
        f'aria-labelledby="{identity}-title {identity}-description" xmlns="http://www.w3.org/2000/svg">'
        f'<title id="{identity}-title">{escape(title)}</title>'
        f'<desc id="{identity}-description">{escape(description)}</desc>' + "".join(parts) + "</svg>"
    )


def _segment(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{_px(x1)}" y1="{_px(y1)}" x2="{_px(x2)}" y2="{_px(y2)}"/>'


def _label(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text class="label" x="{_px(x)}" y="{_px(y)}" text-anchor="{anchor}">{escape(text)}</text>'


def _cut(text: str, width: float) -> str:
    letters = int((width - 8) / _LETTER)
    return text if len(text) <= letters else f"{text[: max(1, letters - 1)]}…"


def _scale(low: float, high: float, start: float, end: float) -> Scale:
    if low == high:
        return lambda value: (start + end) / 2
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _log_scale(low: float, high: float, start: float, end: float) -> Scale:
    linear = _scale(math.log(low), math.log(high), start, end)
    return lambda value: linear(math.log(value))


def _px(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
