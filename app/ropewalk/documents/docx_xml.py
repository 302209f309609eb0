"""Word's XML: elements by their names, whatever their namespace: Word writes two, an older and a stricter."""

from __future__ import annotations

from collections.abc import Iterator

from lxml import etree


def local(element: etree._Element) -> str:
    """An element's name."""
    return str(element.tag).rpartition("}")[2]


def children(element: etree._Element, name: str) -> Iterator[etree._Element]:
    """The children of a name."""
    yield from element.iterchildren(f"{{*}}{name}")


def attribute(element: etree._Element, name: str) -> str | None:
    """An attribute."""
    return next(
        (str(value) for key, value in element.attrib.items() if str(key).rpartition("}")[2] == name), None
    )


def value(element: etree._Element, name: str) -> str | None:
    """The `val` of the first descendant of a name."""
    found = next(element.iter(f"{{*}}{name}"), None)
    return None if found is None else attribute(found, "val")


def number(text: str, otherwise: int = 0) -> int:
    """A small number, as it is written."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else otherwise
