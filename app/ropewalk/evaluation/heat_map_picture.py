"""Heat maps as a picture, PNG or SVG, drawn by matplotlib (the optional extra `plot`)."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ropewalk.evaluation.heat_map import LEVELS, HeatMap, depth_label, level
from ropewalk.evaluation.picture_style import NOTE_COLOUR, drawn, house_style, picture_bytes
from ropewalk.evaluation.report_style import LIGHT

_CELL_WIDTH, _CELL_HEIGHT = 0.58, 0.32  # inches, for counts in letters of 8 points
_LABELS_WIDTH, _LABELS_HEIGHT = 2.6, 0.85
_LEAST_WIDTH = 6.4
_LETTERS_PER_INCH = 15
_LEGEND = ("none hit", "up to 1/3", "up to 2/3", "more", "all hit")


def draw_heat_maps(
    heat_maps: Sequence[HeatMap], picture_format: str, *, title: str, notes: Sequence[str] = ()
) -> bytes:
    """Draw maps one below the other, or two beside each other where they are small.

    Every cell has its hits and trials, and every row its share with the 95% interval. Shades go from light
    to dark, so that a copy in grey reads alike.

    Args:
        heat_maps: at least one; all of the same rows and columns.
        picture_format: `png` or `svg`; an SVG of equal maps is equal byte for byte.
        title: stands above.
        notes: lines that stand below.

    Returns:
        The picture file's content.
    """
    rows, columns = len(heat_maps[0].lengths), len(heat_maps[0].depths)
    width, height = _LABELS_WIDTH + _CELL_WIDTH * columns, _LABELS_HEIGHT + _CELL_HEIGHT * rows
    across = 2 if len(heat_maps) > 2 and width <= 7 else 1
    down = -(-len(heat_maps) // across)
    figure_width = max(_LEAST_WIDTH, across * width)
    letters = int(figure_width * _LETTERS_PER_INCH)
    below = [part for note in notes for part in textwrap.wrap(note, letters)]
    above = textwrap.wrap(title, int(letters * 0.75))
    with house_style():
        figure_height = down * height + 0.25 * len(above) + 0.16 * len(below) + 0.6
        figure = Figure(figsize=(figure_width, figure_height), layout="constrained")
        figure.suptitle(drawn("\n".join(above)), x=0.01, ha="left", fontsize=12)
        panels = figure.subplots(down, across, squeeze=False).ravel()
        for axes, heat_map in zip(panels, heat_maps, strict=False):
            _draw(axes, heat_map, int(width * _LETTERS_PER_INCH * 0.8))
        for axes in panels[len(heat_maps) :]:
            axes.set_axis_off()
        patches = [
            Patch(facecolor=LIGHT[f"h{i}"], edgecolor=NOTE_COLOUR, label=_LEGEND[i]) for i in range(LEVELS)
        ]
        legend = figure.legend(
            handles=patches,
            title=drawn("\n".join(below)),
            alignment="left",
            loc="outside lower left",
            ncols=LEVELS,
            frameon=False,
            fontsize=8,
        )
        legend.get_title().set(fontsize=8, color=NOTE_COLOUR)
        return picture_bytes(figure, picture_format)


def _draw(axes: Axes, heat_map: HeatMap, letters: int) -> None:
    shades = [[level(heat_map.at(length, depth)) for depth in heat_map.depths] for length in heat_map.lengths]
    numbers = np.array([[np.nan if shade is None else shade for shade in row] for row in shades], dtype=float)
    colours = ListedColormap([LIGHT[f"h{i}"] for i in range(LEVELS)])
    edges_x, edges_y = np.arange(numbers.shape[1] + 1) - 0.5, np.arange(numbers.shape[0] + 1) - 0.5
    axes.pcolormesh(
        edges_x,
        edges_y,
        numbers,
        cmap=colours,
        vmin=-0.5,
        vmax=LEVELS - 0.5,
        edgecolor="#ffffff",
        linewidth=1,
    )
    axes.grid(visible=False)
    axes.invert_yaxis()
    for row, length in enumerate(heat_map.lengths):
        for column, depth in enumerate(heat_map.depths):
            accuracy, shade = heat_map.at(length, depth), shades[row][column]
            words = "–" if shade is None else f"{accuracy.hits}/{accuracy.trials}"
            colour = NOTE_COLOUR if shade is None else LIGHT[f"h{shade}-text"]
            axes.text(column, row, words, ha="center", va="center", fontsize=8, color=colour)
        of_row = heat_map.of_length(length)
        axes.text(len(heat_map.depths) - 0.35, row, of_row.words, ha="left", va="center", fontsize=8)
    axes.set_xticks(range(len(heat_map.depths)), [depth_label(depth) for depth in heat_map.depths])
    axes.set_yticks(range(len(heat_map.lengths)), [f"{length:,}" for length in heat_map.lengths])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    title = "\n".join(textwrap.wrap(f"{heat_map.method}: {heat_map.total.words}", max(24, letters)))
    axes.set(title=drawn(title), xlabel="depth (0 start, 1 end)", ylabel="length (tokens)")
