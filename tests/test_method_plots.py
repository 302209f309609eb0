"""The plots of docs/methods.md: all there, shown, small, and drawn by the command that the page names."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import method_plots

DOCS = Path(__file__).parents[1] / "docs"


def test_the_page_shows_every_plot_there_is_and_no_other() -> None:
    shown = re.findall(r"!\[[^\]]+\]\((plots/[^)]+)\)", (DOCS / "methods.md").read_text())
    kept = [path.relative_to(DOCS).as_posix() for path in (DOCS / "plots").iterdir()]
    drawn = [plot.path.relative_to(DOCS).as_posix() for plot in method_plots.PLOTS]
    assert sorted(shown) == sorted(kept) == sorted(drawn)


@pytest.mark.parametrize("plot", method_plots.PLOTS, ids=lambda plot: plot.name)
def test_plots_are_small(plot: method_plots.Plot) -> None:
    assert 10_000 < plot.path.stat().st_size < 200_000


def longest_curve(svg: str) -> np.ndarray:
    """The heights, from 0 to 1, of a picture's longest curve at 50 even places: free of where it stands."""
    paths = [re.findall(r"[ML] ([\d.]+) ([\d.]+)", d) for d in re.findall(r'<path d="([^"]*)"', svg)]
    points = np.array(max(paths, key=len), dtype=float)
    x, y = (points - points.min(axis=0)).T / np.ptp(points, axis=0)[:, None]
    heights: np.ndarray = np.interp(np.linspace(0, 1, 50), x, y)
    return heights


def test_kept_plots_are_what_the_command_draws() -> None:
    """Whatever version of matplotlib draws: methods and curves, not where letters stand."""
    plot = min(method_plots.PLOTS, key=lambda plot: plot.path.stat().st_size)
    kept, drawn = plot.path.read_text(), plot.draw().decode()
    for method, options in plot.methods:
        label = " ".join([method, *(f"{name}={value}" for name, value in options.items())])
        assert f">{label}<" in kept
        assert f">{label}<" in drawn
    assert longest_curve(drawn) == pytest.approx(longest_curve(kept), abs=0.02)
