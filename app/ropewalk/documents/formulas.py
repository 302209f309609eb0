"""Formulas as one line of text: `(a+b)/2`, `x_i^2`; from MathML's elements, as they come."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

_INVISIBLE = dict.fromkeys(range(0x2061, 0x2065))  # operators: "times", "function of"
_BETWEEN = {  # what is put between the parts of an element
    "mfrac": "/",
    "msup": "^",
    "mover": "^",
    "msub": "_",
    "munder": "_",
    "msubsup": "_^",
    "munderover": "_^",
}
_HIGHER_OR_LOWER = re.compile(r"[\^_/]\w*\Z")
_OF_TEX = ("application/x-tex", "text/x-tex", "latex", "tex")


@dataclass
class _Element:
    tag: str
    parts: list[str] = field(default_factory=list)


class Formula:
    """A `math` element that is being read."""

    def __init__(self, alternative: str | None = None) -> None:
        """A formula; `alternative`: how the file writes it itself as text."""
        self._written = alternative
        self._open = [_Element("math")]

    def start(self, tag: str, encoding: str = "") -> None:
        """An element begins; `encoding`: what an annotation says that it is."""
        is_tex = tag == "annotation" and encoding.lower() in _OF_TEX
        self._open.append(_Element("tex" if is_tex else tag))

    def data(self, text: str) -> None:
        """Some text."""
        self._open[-1].parts.append(" ".join(text.translate(_INVISIBLE).split()))

    def end(self) -> None:
        """The element that began last ends."""
        if len(self._open) == 1:
            return
        element = self._open.pop()
        if element.tag == "tex":
            self._written = self._written or "".join(element.parts)
        elif element.tag not in ("annotation", "annotation-xml"):
            self._open[-1].parts.append(_line(element.tag, [part for part in element.parts if part]))

    def text(self) -> str:
        """All of it: as the file writes it, else put together of its elements."""
        while len(self._open) > 1:
            self.end()
        return (self._written or _side_by_side(self._open[0].parts)).strip()


def _line(tag: str, parts: Sequence[str]) -> str:
    between = _BETWEEN.get(tag)
    if between is not None and len(parts) == len(between) + 1:
        return _grouped(parts[0]) + "".join(
            sign + _grouped(part) for sign, part in zip(between, parts[1:], strict=True)
        )
    if tag == "msqrt":
        return "√" + _grouped(_side_by_side(parts))
    if tag == "mroot" and len(parts) == 2:
        return f"{_grouped(parts[0])}^(1/{_grouped(parts[1])})"
    separator = {"mtable": "; ", "mtr": ", "}.get(tag)
    return _side_by_side(parts) if separator is None else separator.join(parts)


def _side_by_side(parts: Sequence[str]) -> str:
    """Parts in a row: a power, or a fraction, ends before what stands beside it."""
    row = ""
    for i, part in enumerate(parts):
        stands_apart = i and _HIGHER_OR_LOWER.search(parts[i - 1]) and part[:1].isalnum()
        row += " " + part if stands_apart else part
    return row


def _grouped(part: str) -> str:
    return part if len(part) == 1 or part.isalnum() else f"({part})"
