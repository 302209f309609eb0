"""Heat maps in a terminal of 80 columns: each cell a shade and its hits, so that no colour is needed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ropewalk.evaluation.heat_map import LEVELS, HeatMap, depth_label, level
from ropewalk.evaluation.statistics import Accuracy
from ropewalk.wording.terminal import without_control

WIDTH = 80
_BLOCKS = "·░▒▓█"
_ASCII = ".:+x#"
_COLOURS = ("33", "33", "39", "36", "36")  # yellow and cyan, of 16 colours: told apart by all eyes
_RESET = "\x1b[0m"
_GAP = 2
_LEAST_ROOM = 24  # for cells, beside the labels and the sums


@dataclass(frozen=True)
class Span:
    """A piece of a line.

    Attributes:
        text: printable.
        level: of the cell that it shades, 0 to 4; None for all other text.
    """

    text: str
    level: int | None = None


Line = tuple[Span, ...]


def heat_map_lines(heat_map: HeatMap, *, blocks: bool = True, width: int = WIDTH) -> list[Line]:
    """One method's map as lines of spans, for whoever colours them in a way of their own.

    Columns that do not fit beside each other follow below, in further blocks of rows.

    Args:
        heat_map: what to show.
        blocks: shade with block characters; else with ASCII.
        width: columns there are.
    """
    glyphs = _BLOCKS if blocks else _ASCII
    assert len(glyphs) == LEVELS
    labels = [f"{length:,}" for length in heat_map.lengths]
    left = max([len(label) for label in labels] + [len("LENGTH")])
    sums = [_sum_words(heat_map.of_length(length)) for length in heat_map.lengths]
    right = max([len(words) for words in sums] + [len("ALL DEPTHS")])
    cell = max(
        [len(_cell_words(heat_map.at(n, d))) + 2 for n in heat_map.lengths for d in heat_map.depths]
        + [len(depth_label(depth)) for depth in heat_map.depths]
        + [3]
    )
    room = width - left - right - _GAP
    beside = room >= _LEAST_ROOM
    per_block = max(1, (room if beside else width - left) // (cell + _GAP))
    lines: list[Line] = [_plain(line) for line in _title(heat_map, width)]
    for start in range(0, len(heat_map.depths), per_block):
        depths = heat_map.depths[start : start + per_block]
        last = start + per_block >= len(heat_map.depths)
        head = "LENGTH".rjust(left) + "".join(" " * _GAP + depth_label(d).rjust(cell) for d in depths)
        lines.append(_plain(head + (" " * _GAP + "ALL DEPTHS" if last and beside else "")))
        for label, length, words in zip(labels, heat_map.lengths, sums, strict=True):
            spans = [Span(label.rjust(left))]
            for depth in depths:
                spans += _cell_spans(heat_map.at(length, depth), cell, glyphs)
            if last and beside:
                spans.append(Span(" " * _GAP + words))
            lines.append(tuple(spans))
    if not beside:
        lines += [_plain(f"{label.rjust(left)}  {words}") for label, words in zip(labels, sums, strict=True)]
    return lines


def heat_maps_text(
    heat_maps: Iterable[HeatMap], *, colour: bool = False, blocks: bool = True, width: int = WIDTH
) -> str:
    """Maps as text, one below the other, with what the shades mean.

    Args:
        heat_maps: what to show.
        colour: shade in colour, too, with the escape sequences of a terminal of 16 colours.
        blocks: shade with block characters; else with ASCII.
        width: columns there are.
    """
    texts = [
        "\n".join(_joined(line, colour) for line in heat_map_lines(heat_map, blocks=blocks, width=width))
        for heat_map in heat_maps
    ]
    none, few, some, most, every = tuple(_BLOCKS if blocks else _ASCII)
    legend = (
        f"Columns: depth, 0 start, 1 end. Hits: {none} none, {few} to 1/3, {some} to 2/3, {most} more, "
        f"{every} all."
    )
    return "\n\n".join([*texts, legend])


def _title(heat_map: HeatMap, width: int) -> list[str]:
    words = heat_map.total.words
    name = without_control(heat_map.method).replace("\n", " ")
    if len(name) + _GAP + len(words) <= width:
        return [f"{name}{words:>{width - len(name)}}"]
    return [*(name[i : i + width] for i in range(0, len(name), width)), f"{words:>{width}}"]


def _cell_spans(accuracy: Accuracy, width: int, glyphs: str) -> list[Span]:
    words, shade = _cell_words(accuracy), level(accuracy)
    if shade is None:
        return [Span(" " * _GAP + "-".rjust(width))]
    before = " " * (_GAP + width - len(words) - 2)
    return [Span(before), Span(glyphs[shade], shade), Span(f" {words}")]


def _cell_words(accuracy: Accuracy) -> str:
    return f"{accuracy.hits}/{accuracy.trials}" if accuracy.trials else "-"


def _sum_words(accuracy: Accuracy) -> str:
    """`7/9 78% (45-94%)`: counts, share, interval."""
    if not accuracy.trials:
        return "-"
    low, high = accuracy.interval.low, accuracy.interval.high
    return f"{accuracy.hits}/{accuracy.trials} {accuracy.percent} ({100 * low:.0f}-{high:.0%})"


def _plain(text: str) -> Line:
    return (Span(text),)


def _joined(line: Sequence[Span], colour: bool) -> str:
    text = "".join(
        f"\x1b[{_COLOURS[span.level]}m{span.text}{_RESET}" if colour and span.level is not None else span.text
        for span in line
    )
    return text.rstrip()
