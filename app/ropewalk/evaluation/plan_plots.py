"""A plan's curves as a picture, PNG or SVG, drawn by matplotlib (the optional extra `plot`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ropewalk.evaluation.picture_style import (
    NOTE_COLOUR,
    house_style,
    line_style,
    marker,
    picture_bytes,
)
from ropewalk.evaluation.plan_curves import MethodCurves, PlanCurves
from ropewalk_plan.attention_score import Band
from ropewalk_plan.disturbance import TABLE_UNIT
from ropewalk_plan.rope_spec import FloatArray

_BAND_TITLES = {
    Band.ALL: "Attention score of identical tokens",
    Band.LOW: "The same, low frequencies only (the slowest 28%)",
    Band.HIGH: "The same, high frequencies only (the fastest 28%)",
}


def draw_plans(curves: PlanCurves, picture_format: str) -> bytes:
    """Draw the curves of one model's plans.

    Args:
        curves: what to draw.
        picture_format: `png` or `svg`; an SVG of equal curves is equal byte for byte.

    Returns:
        The picture file's content.
    """
    with house_style():
        figure = Figure(figsize=(10, 10.5), layout="constrained")
        _compose(figure, curves)
        return picture_bytes(figure, picture_format)


def _compose(figure: Figure, curves: PlanCurves) -> None:
    (factors, disturbances), (scores, low), (high, bounds) = figure.subplots(3, 2)
    _draw_pairs(
        factors,
        curves,
        lambda method: method.factors,
        title="Frequency factor",
        unit="divides the frequency",
        drawstyle="steps-mid",
    )
    factors.set_yscale("log", base=2)
    factors.yaxis.set_major_formatter("{x:g}")
    if all(np.ptp(method.factors) == 0.0 for method in curves.methods):
        bottom, top = factors.get_ylim()
        factors.set_ylim(bottom / 2.0, top * 2.0)  # flat lines: room around them, not tiny ticks
    _draw_pairs(
        disturbances,
        curves,
        lambda method: method.disturbances * TABLE_UNIT,
        title="Disturbance of the angles (DPRoPE)",
        unit="nats × 1000",
    )
    disturbances.set_yscale("symlog", linthresh=1.0)
    disturbances.set_ylim(bottom=0.0)
    for axes, band in ((scores, Band.ALL), (low, Band.LOW), (high, Band.HIGH)):
        _draw_scores(axes, curves, band)
    high.set_xscale("log")
    high.set_xlim(left=1)
    high.xaxis.set_major_formatter("{x:,.0f}")
    _draw_bounds(bounds, curves)
    handles, labels = factors.get_legend_handles_labels()
    legend = figure.legend(
        handles, labels, title=curves.title, loc="outside upper center", ncols=len(labels), frameon=False
    )
    legend.get_title().set_fontsize(11)


def _draw_pairs(
    axes: Axes,
    curves: PlanCurves,
    values: Callable[[MethodCurves], FloatArray],
    *,
    title: str,
    unit: str,
    drawstyle: Literal["default", "steps-mid"] = "default",
) -> None:
    for i, method in enumerate(curves.methods):
        colour, dash = line_style(i)
        numbers = values(method)
        every = max(1, len(numbers) // 12)
        axes.plot(
            np.arange(len(numbers)),
            numbers,
            color=colour,
            linestyle=dash,
            linewidth=1.3,
            drawstyle=drawstyle,
            marker=marker(i),
            markevery=(i % every, every),
            markersize=4,
            label=method.label,
        )
    axes.set(title=title, xlabel="pair (0 is the fastest)", ylabel=unit)


def _draw_scores(axes: Axes, curves: PlanCurves, band: Band) -> None:
    for i, method in enumerate(curves.methods):
        colour, dash = line_style(i)
        axes.plot(curves.distances[band], method.scores[band], color=colour, linestyle=dash, linewidth=1.2)
    axes.axhline(0.0, color=NOTE_COLOUR, linewidth=0.8, zorder=1)
    axes.set(title=_BAND_TITLES[band], ylabel="score (mean nearby)")
    _mark_length(axes, curves)


def _draw_bounds(axes: Axes, curves: PlanCurves) -> None:
    axes.plot(
        curves.distances[Band.ALL],
        curves.extrapolation_bound,
        color="#000000",
        linewidth=1.2,
        label="extrapolated, 2 B(s)",
    )
    axes.axhline(
        curves.interpolation_bound,
        color="#000000",
        linewidth=1.2,
        linestyle=(0, (4, 2)),
        label="interpolated, off the scores it knows",
    )
    axes.set_yscale("log")
    axes.set(title="Bounds on the score (PI, Theorem 2.1)", ylabel="bound")
    axes.legend(framealpha=1.0, edgecolor="none", loc="center right")
    _mark_length(axes, curves)


def _mark_length(axes: Axes, curves: PlanCurves) -> None:
    axes.axvline(curves.train_length, color=NOTE_COLOUR, linewidth=1.0, linestyle=(0, (3, 3)))
    axes.annotate(
        "L",
        (curves.train_length, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(3, -2),
        textcoords="offset points",
        va="top",
        color=NOTE_COLOUR,
    )
    axes.set_xlabel("distance from position 0 (tokens)")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlim(left=0)
