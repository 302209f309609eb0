"""The page's pictures: passkey and perplexity by length after fine-tuning; disturbance against accuracy."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replication.experiments import L, experiments
from replication.findings import Findings
from ropewalk.evaluation.picture_style import house_style, line_style, marker, picture_bytes
from ropewalk.evaluation.results import write_whole
from ropewalk.evaluation.statistics import Accuracy


def write_pictures(held: Findings, folder: Path) -> None:
    """Write `tuned.svg` and `disturbance.svg` into a folder, which is there."""
    with house_style():
        for name, figure in (("tuned", _tuned(held)), ("disturbance", _disturbance(held))):
            write_whole(folder / f"{name}.svg", picture_bytes(figure, "svg"))


def _tuned(held: Findings) -> Figure:
    """After 100 steps at 4L: hits and perplexity by length, a curve for each method."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    curves = 0
    for planned in experiments():
        found = held["experiments"].get(planned.name)
        if (planned.steps, planned.target) != (100, 4 * L) or found is None:
            continue
        colour, dash = line_style(curves)
        style = {
            "color": colour,
            "linestyle": dash,
            "marker": marker(curves),
            "markersize": 4,
            "linewidth": 1.2,
        }
        rows = found["passkey"]
        left.plot([row["length"] / L for row in rows], [row["hits"] / row["trials"] for row in rows], **style)
        right.plot(
            [row["length"] / L for row in found["perplexity"]],
            [row["tail"] for row in found["perplexity"]],
            label=planned.contender.label,
            **style,
        )
        curves += 1
    left.set(title="passkey", xlabel="length in L", ylabel="share of hits", ylim=(-0.03, 1.03))
    right.set(title="perplexity of the last 128 tokens", xlabel="length in L", yscale="log")
    for axes in (left, right):
        axes.axvline(4, color="#888888", linewidth=0.8, linestyle=":")
    if curves:
        right.legend(fontsize=7, frameon=False)
    return figure


def _disturbance(held: Findings) -> Figure:
    """Each plan of the sweeps: its disturbance, and its hits with their interval."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for axes, factor in zip(figure.subplots(1, 2), (2, 4), strict=True):
        _scatter(axes, held.get(f"sweep {factor * L}", []))
        axes.set(title=f"at {factor}L, untuned", xlabel="disturbance (x1000)", ylabel="share of hits")
        axes.set_ylim(-0.03, 1.03)
    return figure


def _scatter(axes: Axes, sweep: list[Findings]) -> None:
    for plan in sweep:
        accuracy = Accuracy(plan["hits"], plan["trials"])
        interval = accuracy.interval
        errors = [[accuracy.share - interval.low], [interval.high - accuracy.share]]
        kind = 0 if plan["label"].startswith("DPRoPE") else 1
        axes.errorbar(
            plan["disturbance"],
            accuracy.share,
            yerr=errors,
            color=line_style(kind)[0],
            marker=marker(kind),
            markersize=4,
            linewidth=0.7,
        )
        if kind:
            axes.annotate(
                plan["label"],
                (plan["disturbance"], accuracy.share),
                fontsize=7,
                xytext=(4, 4),
                textcoords="offset points",
            )
