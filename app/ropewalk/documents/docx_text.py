"""The text of a Word document's XML: paragraphs, headings, lists and tables in order, as in Markdown.

What a reader of the document sees as its text is taken: insertions that are tracked, links, text boxes,
notes. What is deleted, moved away or hidden, and what fields are made of, is not; nor are headers, footers
and comments, which are no part of the text that runs on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from lxml import etree

from ropewalk.documents.docx_formulas import formula_text
from ropewalk.documents.docx_numbering import BULLET, Numbering
from ropewalk.documents.docx_symbols import symbol_text
from ropewalk.documents.docx_xml import attribute, local, number, value

_SKIPPED = frozenset(
    (
        "del",
        "moveFrom",
        "delText",
        "instrText",
        "delInstrText",
        "Fallback",
        "pPr",
        "rPr",
        "tblPr",
        "sdtPr",
        "rt",
    )
)
_NOTES = {"footnoteReference": "[^{}]", "endnoteReference": "[^e{}]"}
_CHARACTERS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
_RAISED_SIGNS = "+-−"
_DEEPEST_STYLE = 20
_HIGHEST_LEVEL = 6


@dataclass(frozen=True)
class Block:
    """A paragraph, or a row of a table.

    Attributes:
        text: it, with what marks it in Markdown.
        close: whether it follows the block before without an empty line, as items and rows do.
        heading: its text where it is a heading, without marks.
    """

    text: str
    close: bool = False
    heading: str | None = None


@dataclass(frozen=True)
class Style:
    """What a paragraph's style says.

    Attributes:
        level: of its heading, from 1; 0 where it is none.
        number_id: the list it is an item of; "0" for none whatever the style below says, None: that decides.
        number_level: which level of the list, from 0; None: the list knows.
        based_on: the style that it changes.
    """

    level: int = 0
    number_id: str | None = None
    number_level: int | None = None
    based_on: str | None = None


def blocks(root: etree._Element, styles: Mapping[str, Style], numbering: Numbering) -> Iterator[Block]:
    """The blocks of a document's or a note's XML, in order; empty ones are left out."""
    yield from _Walk(styles, numbering).blocks(root)


def read_styles(root: etree._Element | None) -> dict[str, Style]:
    """The paragraph styles of `styles.xml`, by their ids."""
    styles: dict[str, Style] = {}
    for style in [] if root is None else root.iter("{*}style"):
        name, outline = value(style, "name") or "", value(style, "outlineLvl")
        level = number(name.lower().removeprefix("heading ")) if name.lower().startswith("heading ") else 0
        if not level and outline is not None:
            level = number(outline, -1) + 1
        title = name.lower() == "title"
        styles[attribute(style, "styleId") or ""] = Style(
            1 if title else level if level <= 9 else 0,
            value(style, "numId"),
            _level_in_list(style),
            value(style, "basedOn"),
        )
    return styles


@dataclass
class _Walk:
    styles: Mapping[str, Style]
    numbering: Numbering
    boxes: list[etree._Element] = field(default_factory=list)

    def blocks(self, parent: etree._Element) -> Iterator[Block]:
        before_is_item = False
        for block in self._blocks(parent):
            yield Block(block.text, close=block.close and before_is_item, heading=block.heading)
            before_is_item = block.close

    def _blocks(self, parent: etree._Element) -> Iterator[Block]:
        for child in parent.iterchildren("*"):
            name = local(child)
            if name in _SKIPPED:
                continue
            if name == "p":
                yield from self._paragraph(child)
            elif name == "tbl":
                yield from self._table(child)
            else:  # content controls, insertions, whatever else wraps
                yield from self._blocks(child)

    def _paragraph(self, paragraph: etree._Element) -> Iterator[Block]:
        text = self.text(paragraph).strip()
        boxes, self.boxes = self.boxes, []
        level, label = self._kind(paragraph)  # also of an empty one, which Word counts
        if text and level:
            heading = " ".join([label if label != BULLET else "", *text.split()]).strip()
            yield Block("#" * min(level, _HIGHEST_LEVEL) + " " + heading, heading=heading)
        elif text:
            yield Block(f"{label} {text}" if label else text, close=bool(label))
        for box in boxes:
            yield from self._blocks(box)

    def _table(self, table: etree._Element) -> Iterator[Block]:
        for row in _rows(table):
            cells = [
                " ".join(" ".join(block.text.split()) for block in self._blocks(cell)) for cell in _cells(row)
            ]
            if any(cells):
                yield Block(" | ".join(cells), close=True)

    def text(self, element: etree._Element) -> str:
        """The text of a paragraph; text boxes in it are put aside."""
        pieces: list[str] = []
        for child in element.iterchildren("*"):
            name = local(child)
            if name in _SKIPPED or (name == "r" and _is_hidden(child)):
                continue
            if name == "oMath":
                pieces.append(formula_text(child))
            elif name == "r":
                pieces.append(_raised(child, self.text(child), "".join(pieces[-1:])[-1:]))
            elif name == "sym":
                pieces.append(symbol_text(child))
            elif name == "t":
                pieces.append(child.text or "")
            elif name in _CHARACTERS:
                pieces.append(_CHARACTERS[name])
            elif name in _NOTES:
                pieces.append(_NOTES[name].format(attribute(child, "id")))
            elif name == "txbxContent":
                self.boxes.append(child)
            else:
                pieces.append(self.text(child))
        return "".join(pieces)

    def _kind(self, paragraph: etree._Element) -> tuple[int, str]:
        """The level of a heading, from 1, or 0; and what stands before an item of a list, else nothing."""
        properties = paragraph.find("{*}pPr")
        if properties is None:
            return 0, ""
        own = properties.find("{*}numPr")
        level = number(value(properties, "outlineLvl") or "", -1) + 1
        number_id = None if own is None else value(own, "numId")
        number_level = None if own is None else _level_in_list(own)
        style_id = numbered_style = value(properties, "pStyle")
        for _ in range(_DEEPEST_STYLE):
            style = self.styles.get(style_id or "")
            if style is None:
                break
            level = level or style.level
            if number_id is None and style.number_id is not None:
                number_id, numbered_style = style.number_id, style_id
            number_level = style.number_level if number_level is None else number_level
            style_id = style.based_on
        label = ""
        if number_id not in (None, "0"):
            if number_level is None:
                number_level = self.numbering.level_of(number_id, numbered_style)
            label = self.numbering.label(number_id, number_level)
        return (level if level <= 9 else 0), label


def _level_in_list(element: etree._Element) -> int | None:
    level = value(element, "ilvl")
    return None if level is None else number(level)


def _rows(table: etree._Element) -> Iterator[etree._Element]:
    """A table's rows, without those of tables in it."""
    for child in table.iterchildren("*"):
        if local(child) == "tr":
            properties = child.find("{*}trPr")
            if properties is None or properties.find("{*}del") is None:
                yield child
        elif local(child) not in ("tc", "p", *_SKIPPED):
            yield from _rows(child)


def _cells(row: etree._Element) -> Iterator[etree._Element]:
    for child in row.iterchildren("*"):
        if local(child) == "tc":
            yield child
        elif local(child) not in ("p", *_SKIPPED):
            yield from _cells(child)


def _raised(run: etree._Element, text: str, before: str) -> str:
    """A run's text, marked where it is raised or lowered and would be taken for more digits of a number."""
    properties = run.find("{*}rPr")
    where = None if properties is None else value(properties, "vertAlign")
    if where == "superscript" and before.strip() and (text[:1].isdecimal() or text[:1] in _RAISED_SIGNS):
        return f"^{text}" if text else ""
    if where == "subscript" and before.isdecimal() and text[:1].isdecimal():
        return f"_{text}"
    return text


def _is_hidden(run: etree._Element) -> bool:
    properties = run.find("{*}rPr")
    vanish = None if properties is None else properties.find("{*}vanish")
    return vanish is not None and (attribute(vanish, "val") or "true") not in ("0", "false", "off")
