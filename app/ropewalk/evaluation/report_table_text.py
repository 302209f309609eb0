"""Tables in a terminal of 80 columns."""

from __future__ import annotations

from rich.cells import cell_len

from ropewalk.evaluation.report_page import Table
from ropewalk.wording.terminal import without_control

WIDTH = 80
_GAP = 2
_LEAST = 12  # columns for the last cells, below which they stand on lines of their own


def table_text(table: Table, *, width: int = WIDTH) -> str:
    """A table as lines: numbers to the right, the last column folded to the room there is.

    Where the columns before it leave none, each row is a block: its name, and below it the cells with their
    columns' names.
    """
    head = tuple(_line(name) for name in table.head)
    rows = [tuple(_line(cell) for cell in row) for row in table.rows]
    widths = [max(cell_len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    room = width - sum(widths[:-1]) - _GAP * (len(head) - 1)
    if room < min(_LEAST, widths[-1]):
        return "\n".join(part for row in rows for part in _block(head, row, width))
    return "\n".join(part for row in (head, *rows) for part in _row(table, row, widths, room))


def _row(table: Table, row: tuple[str, ...], widths: list[int], room: int) -> list[str]:
    before = "".join(
        _padded(cell, width, to_the_right=i in table.numbers) + " " * _GAP
        for i, (cell, width) in enumerate(zip(row[:-1], widths, strict=False))
    )
    last = row[-1]
    if len(row) - 1 in table.numbers:
        last = _padded(last, min(room, widths[-1]), to_the_right=True)
    first, *rest = _folded(last, room)
    return [f"{before}{first}".rstrip(), *(" " * cell_len(before) + part for part in rest)]


def _block(head: tuple[str, ...], row: tuple[str, ...], width: int) -> list[str]:
    lines = _folded(row[0], width)
    for name, cell in zip(head[1:], row[1:], strict=True):
        lines += [f"  {part}" for part in _folded(f"{name}: {cell}", width - 2)]
    return lines


def folded(text: str, *, width: int = WIDTH) -> str:
    """A paragraph as lines of at most `width` columns."""
    return "\n".join(_folded(_line(text), width))


def _padded(cell: str, width: int, *, to_the_right: bool) -> str:
    """A cell in `width` columns; wide characters take two each."""
    space = " " * max(0, width - cell_len(cell))
    return space + cell if to_the_right else cell + space


def _folded(text: str, width: int) -> list[str]:
    """A line as one or more, broken between words, or within one that is too long for a line."""
    if cell_len(text) <= width:
        return [text]
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}" if lines[-1] else word
        if cell_len(joined) <= width:
            lines[-1] = joined
            continue
        first, *rest = _chopped(word, width)
        lines[len(lines) - (not lines[-1]) :] = [first, *rest]
    return lines


def _chopped(word: str, width: int) -> list[str]:
    pieces = [""]
    for character in word:
        if cell_len(pieces[-1]) + cell_len(character) > width:
            pieces.append("")
        pieces[-1] += character
    return pieces


def _line(text: str) -> str:
    return " ".join(without_control(text).split())
