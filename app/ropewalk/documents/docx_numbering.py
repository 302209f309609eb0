"""Word's numbers of paragraphs: `3.2`, `(a)`, `IV.`; the file has only the rules that they are made by."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from lxml import etree

from ropewalk.documents.docx_xml import attribute, children, number, value

BULLET = "-"
_LEVELS = 9
_COUNTED = re.compile(r"%([1-9])")
_ROMAN = (
    *((1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L")),
    *((40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")),
)
_MOST_ROMAN = 5000
_MOST_LETTERED = 780  # as Word: `zzz...` thirty times
_LONGEST_TEXT = 100


@dataclass(frozen=True)
class Level:
    """A level of a list.

    Attributes:
        format: how its numbers are written, by Word's name.
        text: what stands before a paragraph: `%1.%2` is the number of the first level and that of the second.
        start: its first number.
        style: the paragraph style that is of this level.
    """

    format: str = "bullet"
    text: str = ""
    start: int = 1
    style: str | None = None


@dataclass
class _List:
    """A list and how far it has been counted, level by level; None: not begun."""

    levels: dict[int, Level]
    counted: list[int | None] = field(default_factory=lambda: [None] * _LEVELS)


@dataclass
class Numbering:
    """The lists of a document, counted through as its paragraphs come."""

    _lists: dict[str, _List] = field(default_factory=dict)  # by number; several may be one list going on
    _restarts: dict[str, dict[int, int]] = field(default_factory=dict)  # what a number's first paragraph does

    def level_of(self, number_id: str | None, style: str | None) -> int:
        """Which level of a list the paragraphs of a style are, the first where the list says nothing."""
        known = self._lists.get(number_id or "")
        levels = {} if known is None else known.levels
        return next((level for level, rules in levels.items() if style and rules.style == style), 0)

    def label(self, number_id: str | None, level: int) -> str:
        """What stands before the next paragraph of a list; a bullet where the list is not known."""
        known = self._lists.get(number_id or "")
        if number_id is None or known is None or level not in known.levels:
            return BULLET
        for restarted, start in self._restarts.pop(number_id, {}).items():
            known.counted[restarted] = start - 1
        counted = known.counted
        before = counted[level]
        counted[level] = known.levels[level].start if before is None else before + 1
        counted[level + 1 :] = [None] * (_LEVELS - level - 1)
        rules = known.levels[level]
        if rules.format == "bullet":
            return BULLET
        return _COUNTED.sub(lambda named: _number_of(known, int(named[1]) - 1), rules.text).strip()


def read_numbering(root: etree._Element | None) -> Numbering:
    """The lists that `numbering.xml` describes."""
    numbering = Numbering()
    if root is None:
        return numbering
    lists = {
        attribute(one, "abstractNumId"): _List(dict(_levels(one))) for one in children(root, "abstractNum")
    }
    for one in children(root, "num"):
        number_id, of = attribute(one, "numId"), lists.get(value(one, "abstractNumId"))
        if number_id is None or of is None:
            continue
        numbering._lists[number_id] = of
        for override in children(one, "lvlOverride"):
            level, start = number(attribute(override, "ilvl") or "", -1), value(override, "startOverride")
            if start is not None and 0 <= level < _LEVELS:
                numbering._restarts.setdefault(number_id, {})[level] = number(start, 1)
    return numbering


def _levels(of: etree._Element) -> Iterator[tuple[int, Level]]:
    for one in children(of, "lvl"):
        level = number(attribute(one, "ilvl") or "", -1)
        if 0 <= level < _LEVELS:
            yield (
                level,
                Level(
                    value(one, "numFmt") or "decimal",
                    (value(one, "lvlText") or "")[:_LONGEST_TEXT],
                    number(value(one, "start") or "", 1),
                    value(one, "pStyle"),
                ),
            )


def _number_of(known: _List, level: int) -> str:
    rules = known.levels.get(level, Level())
    counted = known.counted[level]
    return _written(rules.start if counted is None else counted, rules.format)


def _written(count: int, kind: str) -> str:
    if kind in ("lowerRoman", "upperRoman") and 0 < count < _MOST_ROMAN:
        letters, left = "", count
        for worth, letter in _ROMAN:
            letters += letter * (left // worth)
            left %= worth
        return letters.lower() if kind == "lowerRoman" else letters
    if kind in ("lowerLetter", "upperLetter") and 0 < count <= _MOST_LETTERED:  # a to z, then aa, bb
        letters = chr(ord("a") + (count - 1) % 26) * ((count - 1) // 26 + 1)
        return letters if kind == "lowerLetter" else letters.upper()
    if kind == "none":
        return ""
    return f"{count:02}" if kind == "decimalZero" else str(count)
