"""Tables in a terminal of 80 columns."""

from __future__ import annotations

import textwrap

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
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    room = width - sum(widths[:-1]) - _GAP * (len(head) - 1)
    if room < min(_LEAST, widths[-1]):
        return "\n".join(part for row in rows for part in _block(head, row, width))
    return "\n".join(part for row in (head, *rows) for part in _row(table, row, widths, room))


def _row(table: Table, row: tuple[str, ...], widths: list[int], room: int) -> list[str]:
    before = "".join(
        (cell.rjust(width) if i in table.numbers else cell.ljust(width)) + " " * _GAP
        for i, (cell, width) in enumerate(zip(row[:-1], widths, strict=False))
    )
    last = row[-1].rjust(min(room, widths[-1])) if len(row) - 1 in table.numbers else row[-1]
    first, *rest = _folded(last, room) or [""]
    return [f"{before}{first}".rstrip(), *(" " * len(before) + part for part in rest)]


def _block(head: tuple[str, ...], row: tuple[str, ...], width: int) -> list[str]:
    lines = _folded(row[0], width) or [""]
    for name, cell in zip(head[1:], row[1:], strict=True):
        lines += [f"  {part}" for part in _folded(f"{name}: {cell}", width - 2)]
    return lines


def _folded(text: str, width: int) -> list[str]:
    if len(text) <= width:
        return [text]
    return textwrap.wrap(text, width, break_on_hyphens=False)


def folded(text: str, *, width: int = WIDTH) -> str:
    """A paragraph as lines of at most `width` columns."""
    return "\n".join(_folded(_line(text), width))


def _line(text: str) -> str:
    return " ".join(without_control(text).split())
