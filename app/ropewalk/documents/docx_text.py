"""The text of a Word document's XML: paragraphs, headings, lists and tables in order, as in Markdown.

What a reader of the document sees as its text is taken: insertions that are tracked, links, text boxes,
notes. What is deleted, moved away or hidden, and what fields are made of, is not; nor are headers, footers
and comments, which are no part of the text that runs on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from lxml import etree

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
        is_item: whether it is an item of a list.
        based_on: the style that it changes.
    """

    level: int = 0
    is_item: bool = False
    based_on: str | None = None


def blocks(root: etree._Element, styles: Mapping[str, Style]) -> Iterator[Block]:
    """The blocks of a document's or a note's XML, in order; empty ones are left out."""
    yield from _Walk(styles).blocks(root)


def read_styles(root: etree._Element | None) -> dict[str, Style]:
    """The paragraph styles of `styles.xml`, by their ids."""
    styles: dict[str, Style] = {}
    for style in [] if root is None else root.iter("{*}style"):
        name, outline = _value(style, "name") or "", _value(style, "outlineLvl")
        level = _number(name.lower().removeprefix("heading ")) if name.lower().startswith("heading ") else 0
        if not level and outline is not None:
            level = _number(outline, -1) + 1
        is_item = next(style.iter("{*}numPr"), None) is not None
        title = name.lower() == "title"
        styles[_attribute(style, "styleId") or ""] = Style(
            1 if title else level if level <= 9 else 0, is_item, _value(style, "basedOn")
        )
    return styles


@dataclass
class _Walk:
    styles: Mapping[str, Style]
    boxes: list[etree._Element] = field(default_factory=list)

    def blocks(self, parent: etree._Element) -> Iterator[Block]:
        before_is_item = False
        for block in self._blocks(parent):
            yield Block(block.text, close=block.close and before_is_item, heading=block.heading)
            before_is_item = block.close

    def _blocks(self, parent: etree._Element) -> Iterator[Block]:
        for child in parent.iterchildren("*"):
            name = _local(child)
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
        if text:
            level, is_item = self._kind(paragraph)
            if level:
                heading = " ".join(text.split())
                yield Block("#" * min(level, _HIGHEST_LEVEL) + " " + heading, heading=heading)
            else:
                yield Block(f"- {text}" if is_item else text, close=is_item)
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
            name = _local(child)
            if name in _SKIPPED or (name == "r" and _is_hidden(child)):
                continue
            if name == "t":
                pieces.append(child.text or "")
            elif name in _CHARACTERS:
                pieces.append(_CHARACTERS[name])
            elif name in _NOTES:
                pieces.append(_NOTES[name].format(_attribute(child, "id")))
            elif name == "txbxContent":
                self.boxes.append(child)
            else:
                pieces.append(self.text(child))
        return "".join(pieces)

    def _kind(self, paragraph: etree._Element) -> tuple[int, bool]:
        """The level of a heading, from 1, or 0; and whether it is an item of a list."""
        properties = paragraph.find("{*}pPr")
        if properties is None:
            return 0, False
        own = properties.find("{*}numPr")
        is_item = own is not None and _value(own, "numId") != "0"
        level = _number(_value(properties, "outlineLvl") or "", -1) + 1
        style_id = _value(properties, "pStyle")
        for _ in range(_DEEPEST_STYLE):
            style = self.styles.get(style_id or "")
            if style is None:
                break
            level, is_item = level or style.level, is_item or (own is None and style.is_item)
            style_id = style.based_on
        return (level if level <= 9 else 0), is_item


def _rows(table: etree._Element) -> Iterator[etree._Element]:
    """A table's rows, without those of tables in it."""
    for child in table.iterchildren("*"):
        if _local(child) == "tr":
            properties = child.find("{*}trPr")
            if properties is None or properties.find("{*}del") is None:
                yield child
        elif _local(child) not in ("tc", "p", *_SKIPPED):
            yield from _rows(child)


def _cells(row: etree._Element) -> Iterator[etree._Element]:
    for child in row.iterchildren("*"):
        if _local(child) == "tc":
            yield child
        elif _local(child) not in ("p", *_SKIPPED):
            yield from _cells(child)


def _is_hidden(run: etree._Element) -> bool:
    properties = run.find("{*}rPr")
    vanish = None if properties is None else properties.find("{*}vanish")
    return vanish is not None and (_attribute(vanish, "val") or "true") not in ("0", "false", "off")


def _local(element: etree._Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _attribute(element: etree._Element, name: str) -> str | None:
    """An attribute, whatever its namespace: Word writes two, an older and a stricter one."""
    return next(
        (str(value) for key, value in element.attrib.items() if str(key).rpartition("}")[2] == name), None
    )


def _value(element: etree._Element, name: str) -> str | None:
    """The `val` of the first descendant of a name."""
    found = next(element.iter(f"{{*}}{name}"), None)
    return None if found is None else _attribute(found, "val")


def _number(text: str, otherwise: int = 0) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 3 else otherwise
