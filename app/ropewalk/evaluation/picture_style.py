"""How pictures by matplotlib look, and how they become files: alike for all, told apart without colours."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from ropewalk.wording.terminal import without_control

NOTE_COLOUR = "#555555"
MARKERS = "osD^vPX"
# Okabe and Ito's colours, which people who see fewer colours tell apart, and a dash for each, for paper
_STYLES: tuple[tuple[str, object], ...] = (
    ("#0072B2", "-"),
    ("#D55E00", (0, (5, 1.5))),
    ("#009E73", (0, (1.2, 1.2))),
    ("#CC79A7", (0, (6, 1.5, 1.2, 1.5))),
    ("#E69F00", (0, (3, 1.2))),
    ("#56B4E9", (0, (6, 1.2, 1.2, 1.2, 1.2, 1.2))),
    ("#000000", (0, (2, 3))),
)


def line_style(index: int) -> tuple[str, object]:
    """Colour and dash of the curve of that number, from 0."""
    return _STYLES[index % len(_STYLES)]


def marker(index: int) -> str:
    """The marker of the curve of that number, from 0."""
    return MARKERS[index % len(MARKERS)]


@contextmanager
def house_style() -> Iterator[None]:
    """Settings in force while a figure is made and saved."""
    settings: dict[Any, Any] = {  # matplotlib's own type of it lists every key there is
        "svg.hashsalt": "ropewalk",
        "svg.fonttype": "none",  # letters as text: searchable, and a third of the size
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#dddddd",
        "grid.linewidth": 0.6,
        "path.simplify_threshold": 0.5,
    }
    with matplotlib.rc_context(settings):
        yield


def drawn(text: str) -> str:
    """A text of anybody's for matplotlib to show as it is, without control characters and formulas in `$`."""
    readable = without_control(text).encode("utf-8", "replace").decode()
    return readable.replace("$", r"\$")


def picture_bytes(figure: Figure, picture_format: str) -> bytes:
    """A figure as the content of a file; an SVG of equal figures is equal byte for byte.

    Args:
        figure: made in `house_style`, which must still be in force.
        picture_format: `png` or `svg`.
    """
    content = io.BytesIO()
    metadata = {"Date": None} if picture_format == "svg" else None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph ")  # a letter that the font lacks is drawn as a box
        figure.savefig(content, format=picture_format, dpi=110, metadata=metadata)
    return content.getvalue()
