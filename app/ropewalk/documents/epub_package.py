"""What an EPUB says of itself: which files are the book, in which order, and what chapters are called."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote

from lxml import etree

from ropewalk.documents.document import DocumentError
from ropewalk.documents.zip_limits import LimitedZip

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_TEXT_TYPES = ("application/xhtml+xml", "text/html", "text/x-oeb1-document", "application/xml", "text/xml")
_OF_FONTS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")  # obfuscated, no secret


@dataclass(frozen=True)
class Package:
    """An EPUB's package document, as far as it matters for the text.

    Attributes:
        chapters: the names of the files that are the book, in reading order.
        titles: what the table of contents calls them.
        n_unlisted: how many more the reading order has, of which nothing says what file they are.
    """

    chapters: tuple[str, ...]
    titles: dict[str, str]
    n_unlisted: int = 0


def read_package(archive: LimitedZip, name: str) -> Package:
    """Read the package document and the table of contents.

    Raises:
        DocumentError: there is none, it is damaged, or the book is protected.
    """
    package_name = _package_name(archive)
    if package_name is None or package_name not in archive:
        raise archive.damaged()
    root = parse_xml(archive.read(package_name))
    if root is None:
        raise archive.damaged()
    folder = posixpath.dirname(package_name)
    items = {item.get("id"): item for item in elements(root, "item")}
    order = [ref.get("idref") for ref in elements(root, "itemref")]
    spine = [items[name] for name in order if name in items]
    chapters = tuple(
        entry_name(folder, item.get("href", ""), archive)
        for item in spine
        if item.get("media-type", _TEXT_TYPES[0]).lower() in _TEXT_TYPES
    )
    _refuse_protected(archive, chapters, name)
    return Package(chapters, _titles(archive, folder, items.values()), len(order) - len(spine))


def parse_xml(data: bytes) -> etree._Element | None:
    """An XML file's root, as forgivingly as can be; nothing outside of it is looked at. None: it has none."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, recover=True)
    try:
        return etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError):
        return None


def elements(root: etree._Element, local_name: str) -> Iterator[etree._Element]:
    """The elements of a name, whatever their namespace, in order."""
    yield from root.iter(f"{{*}}{local_name}")


def entry_name(folder: str, reference: str, archive: LimitedZip) -> str:
    """The name of the entry that a file in a folder of the archive refers to."""
    path = reference.partition("#")[0]
    names = [posixpath.normpath(posixpath.join(folder, one)) for one in (unquote(path), path)]
    return next((one for one in names if one in archive), names[0])


def _package_name(archive: LimitedZip) -> str | None:
    if _CONTAINER in archive:
        container = parse_xml(archive.read(_CONTAINER))
        if container is not None:
            for rootfile in elements(container, "rootfile"):
                return entry_name("", rootfile.get("full-path", ""), archive)
    return next((entry for entry in archive.names if entry.lower().endswith(".opf")), None)


def _refuse_protected(archive: LimitedZip, chapters: tuple[str, ...], name: str) -> None:
    if _ENCRYPTION not in archive:
        return
    root = parse_xml(archive.read(_ENCRYPTION))
    for data in elements(root, "EncryptedData") if root is not None else ():
        methods = {method.get("Algorithm") for method in elements(data, "EncryptionMethod")}
        uris = {
            entry_name("", reference.get("URI", ""), archive)
            for reference in elements(data, "CipherReference")
        }
        if uris & set(chapters) and not methods & set(_OF_FONTS):
            raise DocumentError(
                f"{name} is copy-protected (DRM) and cannot be read; name a copy without protection."
            )


def _titles(archive: LimitedZip, folder: str, items: Iterable[etree._Element]) -> dict[str, str]:
    """Chapters' titles, by the table of contents of EPUB 3, or else of EPUB 2; the first of each file."""
    titles: dict[str, str] = {}
    for item in items:
        properties = (item.get("properties") or "").split()
        is_navigation = "nav" in properties
        if not is_navigation and item.get("media-type") != "application/x-dtbncx+xml":
            continue
        entry = entry_name(folder, item.get("href", ""), archive)
        root = parse_xml(archive.read(entry)) if entry in archive else None
        if root is None:
            continue
        pairs = _navigation(root) if is_navigation else _ncx(root)
        for reference, title in pairs:
            target = entry_name(posixpath.dirname(entry), reference, archive)
            if title:
                titles.setdefault(target, title)
    return titles


def _navigation(root: etree._Element) -> Iterator[tuple[str, str]]:
    for nav in elements(root, "nav"):
        kind = next((value for key, value in nav.attrib.items() if str(key).endswith("}type")), "toc")
        if "toc" in str(kind).split():
            for link in elements(nav, "a"):
                yield link.get("href", ""), _text(link)


def _ncx(root: etree._Element) -> Iterator[tuple[str, str]]:
    for point in elements(root, "navPoint"):
        label = next(elements(point, "navLabel"), None)
        content = next(elements(point, "content"), None)
        if label is not None and content is not None:
            yield content.get("src", ""), _text(label)


def _text(element: etree._Element) -> str:
    return " ".join("".join(element.itertext()).split())
