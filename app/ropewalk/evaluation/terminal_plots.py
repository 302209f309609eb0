"""Curves drawn in a terminal, in braille dots: no colour and no library needed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ropewalk.evaluation.plan_curves import PlanCurves
from ropewalk_plan.attention_score import Band
from ropewalk_plan.disturbance import TABLE_UNIT
from ropewalk_plan.rope_spec import FloatArray

WIDTH = 80
_HEIGHT = 8
_MARGIN = 10  # columns for the numbers at the left
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # of U+2800, rows of a cell by its columns
_EMPTY = 0x2800


def draw_in_terminal(curves: PlanCurves) -> str:
    """The plots of `plan_plots` as text of `WIDTH` columns, one curve to a panel and method."""
    pairs = np.arange(len(curves.methods[0].factors), dtype=np.float64)
    blocks = [curves.title]
    for title, values in (
        ("Frequency factor by pair", [method.factors for method in curves.methods]),
        (
            "Disturbance by pair (nats x 1000)",
            [method.disturbances * TABLE_UNIT for method in curves.methods],
        ),
    ):
        blocks.append(_panels(title, curves, pairs, values, mark=None))
    for band in Band:
        blocks.append(
            _panels(
                f"Attention score by distance, {band.value} (L: {curves.train_length:,})",
                curves,
                curves.distances[band],
                [method.scores[band] for method in curves.methods],
                mark=float(curves.train_length),
            )
        )
    blocks.append(
        "Bounds on the score (Position Interpolation, Theorem 2.1):\n"
        f"  extrapolated: at least {curves.extrapolation_bound.min():.4g}\n"
        f"  interpolated: at most {curves.interpolation_bound:.4g} off the scores that the model knows"
    )
    return "\n\n".join(blocks)


def _panels(
    title: str, curves: PlanCurves, x: FloatArray, values: Sequence[FloatArray], mark: float | None
) -> str:
    low = min(0.0, *(float(numbers.min()) for numbers in values))
    high = max(float(numbers.max()) for numbers in values)
    if high <= low:
        high = low + 1.0
    lines = [title]
    for method, numbers in zip(curves.methods, values, strict=True):
        lines += [f"  {method.label}", *panel(x, numbers, low, high, mark)]
    return "\n".join(lines)


def panel(
    x: FloatArray,
    y: FloatArray,
    low: float,
    high: float,
    mark: float | None,
    *,
    labels: tuple[str, str] | None = None,
) -> list[str]:
    """One curve over x, from `low` to `high`, with the numbers of both axes.

    Args:
        x: rising; its points are drawn at even distances.
        y: of the same length.
        low: the value of the lowest dots.
        high: the value of the highest dots, above `low`.
        mark: an x at which to draw a vertical line; None for none.
        labels: what to write at the lowest and the highest dots; None for the values.

    Returns:
        Lines of at most `WIDTH` columns.
    """
    columns = WIDTH - _MARGIN - 1
    dots = np.zeros((4 * _HEIGHT, 2 * columns), dtype=bool)
    at = y[np.rint(np.linspace(0, len(y) - 1, dots.shape[1])).astype(int)]
    rows = np.rint((1.0 - (at - low) / (high - low)) * (dots.shape[0] - 1)).astype(int)
    for column, row in enumerate(rows):
        before = rows[column - 1] if column else row
        dots[min(before, row) : max(before, row) + 1, column] = True
    if mark is not None and x[0] < mark < x[-1]:
        dots[::2, round(float(np.interp(mark, x, np.linspace(0, dots.shape[1] - 1, len(x)))))] = True
    lines = []
    lowest, highest = labels or (f"{low:.4g}", f"{high:.4g}")
    for i in range(_HEIGHT):
        label = {0: highest, _HEIGHT - 1: lowest}.get(i, "")
        cells = dots[4 * i : 4 * i + 4].reshape(4, columns, 2).transpose(1, 0, 2)
        lines.append(f"{label:>{_MARGIN - 1}} │{''.join(_character(cell) for cell in cells)}".rstrip())
    first, last = f"{x[0]:,.0f}", f"{x[-1]:,.0f}"
    lines.append(" " * _MARGIN + "└" + "─" * columns)
    lines.append(" " * (_MARGIN + 1) + first + last.rjust(columns - len(first)))
    return lines


def _character(cell: np.ndarray) -> str:
    code = sum(_DOTS[row][column] for row, column in zip(*np.nonzero(cell), strict=True))
    return chr(_EMPTY + code) if code else " "
