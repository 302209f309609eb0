"""A stated part of a document: ranges of its pages or lines, as `1-50,70,90-`.

Pages and lines are those that `Place` reports, so what an answer points at can be asked for again. They
belong to one file: of several files joined, no range is taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from ropewalk.documents.document import Document, DocumentError, Part
from ropewalk.wording.quantities import count

Unit = Literal["pages", "lines"]

_RANGE = re.compile(r"(?P<first>[0-9]{1,12})?\s*(?P<dash>-)?\s*(?P<last>[0-9]{1,12})?", re.ASCII)
_DASHES = dict.fromkeys(map(ord, "‐‑‒–—−"), "-")


class SelectionError(Exception):
    """What a person wrote is no selection; the message is a sentence that says what is."""


@dataclass(frozen=True)
class Selection:
    """Which pages or lines of a document to read.

    Attributes:
        unit: what is counted. ranges: (first, last), both included, from 1, in rising order and apart from
        one another; None: to the end.
    """

    unit: Unit
    ranges: tuple[tuple[int, int | None], ...]

    def __str__(self) -> str:
        """As a person writes it: `1-50,70,90-`."""
        return ",".join(_written(first, last) for first, last in self.ranges)

    def __contains__(self, number: int) -> bool:
        """Whether the page or line of this number is selected."""
        return any(first <= number and (last is None or number <= last) for first, last in self.ranges)


def _written(first: int, last: int | None) -> str:
    return str(first) if first == last else f"{first}-{'' if last is None else last}"


def parse_selection(text: str, unit: Unit) -> Selection:
    """Read `1-50,70,90-`; `-50` is from the start, `90-` to the end; overlaps and any order are fine.

    Raises:
        SelectionError: it is nothing of the kind.
    """
    ranges: list[tuple[int, int | None]] = []
    for piece in text.translate(_DASHES).split(","):
        match = _RANGE.fullmatch(piece.strip())
        if (
            match is None
            or (match["first"], match["last"]) == (None, None)
            or (match["last"] and not match["dash"])
        ):
            raise SelectionError(f"'{text}' names no {unit}; write them as 1-50 or 1-50,70,90-.")
        first = int(match["first"] or 1)
        last = int(match["last"]) if match["last"] else None if match["dash"] else first
        if first == 0 or last == 0:
            raise SelectionError(f"'{text}': {unit} are counted from 1.")
        if last is not None and last < first:
            raise SelectionError(f"'{piece.strip()}' runs backwards; write {last}-{first}.")
        ranges.append((first, last))
    return Selection(unit, _merged(ranges))


def _merged(ranges: list[tuple[int, int | None]]) -> tuple[tuple[int, int | None], ...]:
    merged: list[tuple[int, int | None]] = []
    for first, last in sorted(ranges, key=lambda one: one[0]):
        before = merged[-1] if merged else None
        if before and (before[1] is None or first <= before[1] + 1):
            ends = None if before[1] is None or last is None else max(before[1], last)
            merged[-1] = before[0], ends
        else:
            merged.append((first, last))
    return tuple(merged)


def select(document: Document, selection: Selection) -> Document:
    """The selected part of a document; its pages and lines keep their numbers. A notice says what is left
    out.

    Raises:
        DocumentError: it is of several files, has no such pages or lines, or has no text there.
    """
    if not _is_one_file(document):
        raise DocumentError(
            f"{selection.unit.capitalize()} are taken from one file, and {document.name} is several: "
            "name the one by itself."
        )
    runs = list(_runs(document, selection.unit))
    kept = [run for run in runs if run.number in selection]
    if not kept or not any(document.text[run.start : run.end].strip() for run in kept):
        raise DocumentError(_nothing_there(document, selection, runs))
    if len(kept) == len(runs):
        return document
    verb = "is" if _is_single(selection) else "are"
    rest = " with text" if selection.unit == "pages" else ""
    notice = (
        f"{document.name}: only {_named(selection)} {verb} read, {_n_numbers(kept):,} of "
        f"{count(_n_numbers(runs), selection.unit[:-1])}{rest}."
    )
    return _joined(document, kept, notice)


def fitting_range(document: Document, n_characters: int) -> tuple[Unit, str] | None:
    """The most pages or lines from the start whose text is within a number of characters.

    Returns:
        What is counted and the range, as `parse_selection` reads it; None where not even the first page or
        line fits, or the document is of several files.
    """
    if not _is_one_file(document):
        return None
    unit: Unit = "lines" if document.parts[0].page is None else "pages"
    before: int | None = None
    last: int | None = None
    for run in _runs(document, unit):
        if run.end > n_characters:
            if run.number == last:  # a line of HTML may be several runs
                last = before
            break
        if run.number != last:
            before, last = last, run.number
    return None if last is None else (unit, _written(1, last))


@dataclass(frozen=True)
class _Run:
    """A page's or a line's text within one part of the document: where it starts and ends there."""

    number: int
    part: Part
    start: int
    end: int


def _is_one_file(document: Document) -> bool:
    return len({part.file for part in document.parts}) == 1 and not any(
        part.header for part in document.parts
    )


def _runs(document: Document, unit: Unit) -> Iterator[_Run]:
    """The document as pages or lines, in order; nothing where it has no pages, or lines only within pages."""
    for i, part in enumerate(document.parts):
        start, end = part.start, document.part_end(i)
        if unit == "pages":
            if part.page is not None:
                yield _Run(part.page, part, start, end)
        elif part.page is None:
            line = part.first_line
            while start < end:
                following = document.text.find("\n", start, end) + 1 or end
                yield _Run(line, part, start, following)
                start, line = following, line + 1


def _nothing_there(document: Document, selection: Selection, runs: list[_Run]) -> str:
    if runs:
        last = max(run.number for run in runs)
        return (
            f"{document.name} has no text on {_named(selection)}: {selection.unit} 1 to {last:,} are there."
        )
    if selection.unit == "pages":
        lines = sum(1 for _ in _runs(document, "lines"))
        return f"{document.name} has no pages but {count(lines, 'line')}; choose lines instead."
    pages = max(part.page or 0 for part in document.parts)
    return f"{document.name} has pages, 1 to {pages:,}, with lines of their own; choose pages instead."


def _n_numbers(runs: list[_Run]) -> int:
    return len({run.number for run in runs})


def _is_single(selection: Selection) -> bool:
    return len(selection.ranges) == 1 and selection.ranges[0][0] == selection.ranges[0][1]


def _named(selection: Selection) -> str:
    unit = selection.unit[:-1] if _is_single(selection) else selection.unit
    return f"{unit} {str(selection).replace(',', ', ')}"


def _joined(document: Document, kept: list[_Run], notice: str) -> Document:
    texts: list[str] = []
    parts: list[Part] = []
    length, end = 0, -1
    for run in kept:
        if run.start != end or run.part.start == run.start:  # a gap, or another part of the document
            line = run.number if run.part.page is None else run.part.first_line
            parts.append(replace(run.part, start=length, first_line=line))
        texts.append(document.text[run.start : run.end])
        length, end = length + run.end - run.start, run.end
    return Document(document.name, "".join(texts), tuple(parts), (*document.notices, notice))
