"""EPUB: the text of a book in its reading order, chapter by chapter.

A book without pages: a passage's place is its chapter, by the title that the table of contents gives it (else
its own first heading), and the line of the text as it is read here, counted through the whole book.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator, Mapping
from html.entities import html5
from typing import Any

from lxml import etree

from ropewalk.documents.document import DocumentError, OnProgress, Piece, Reading, Source
from ropewalk.documents.encodings import decode
from ropewalk.documents.epub_package import Package, read_package
from ropewalk.documents.html_text import ShownText
from ropewalk.documents.zip_limits import LimitedZip
from ropewalk.wording.quantities import count

_MIMETYPE = b"mimetypeapplication/epub+zip"
_MIMETYPE_AT = 30
_ENTITY = re.compile(rb"&([A-Za-z][A-Za-z0-9]{1,31});")
_OF_XML = frozenset((b"amp", b"lt", b"gt", b"quot", b"apos"))
_HEADING = re.compile(r"^#{1,6} (\S.*)$", re.MULTILINE)


def is_epub(data: bytes) -> bool:
    """Whether bytes are an EPUB's: a ZIP file that says so at its start, or holds what each must."""
    if data[_MIMETYPE_AT : _MIMETYPE_AT + len(_MIMETYPE)] == _MIMETYPE:
        return True
    if not data.startswith(b"PK\x03\x04"):
        return False
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return "META-INF/container.xml" in archive.namelist()
    except Exception:  # damaged archives fail in many ways
        return False


def read_epub(source: Source, on_progress: OnProgress) -> Reading:
    """The text of an EPUB, a piece for each chapter; progress in chapters.

    Raises:
        DocumentError: it is damaged, protected, has no text, or unpacks to more than any book.
    """
    with LimitedZip(source, "an EPUB") as archive:
        package = read_package(archive, source.name)
        missing = sum(chapter not in archive for chapter in package.chapters) + package.n_unlisted
        pieces = tuple(_pieces(archive, package, source.name, on_progress))
    n_chapters = len(package.chapters) + package.n_unlisted
    on_progress(len(package.chapters), max(1, len(package.chapters)))
    if not pieces:
        raise DocumentError(_without_text(source.name, n_chapters, missing))
    return Reading(pieces, _notices(source.name, n_chapters, missing))


def _pieces(archive: LimitedZip, package: Package, name: str, on_progress: OnProgress) -> Iterator[Piece]:
    """The chapters that have text, with the lines counted through."""
    line = 1
    section: str | None = None
    for i, chapter in enumerate(package.chapters):
        on_progress(i, len(package.chapters))
        text = chapter_text(archive.read(chapter), name).strip("\n") if chapter in archive else ""
        if not text.strip():
            continue
        heading = _HEADING.search(text)
        if chapter in package.titles:
            section = package.titles[chapter]
        elif heading is not None and not package.titles:
            section = heading[1].strip()
        text += "\n\n"
        yield Piece(text, first_line=line, section=section)
        line += text.count("\n")


def chapter_text(data: bytes, name: str) -> str:
    """The text that a chapter's XHTML shows, or its HTML where it is no XML."""
    named = _ENTITY.sub(_by_number, data)
    shown = _Shown()
    parser = etree.XMLParser(target=shown, resolve_entities=False, no_network=True, load_dtd=False)
    try:
        parser.feed(named)
        return str(parser.close())
    except (etree.XMLSyntaxError, ValueError):
        pass
    # As browsers read it: not the first choice, since to HTML `<title/>` has no end.
    forgiving = etree.HTMLParser(target=_Shown(), encoding="utf-8", huge_tree=True, no_network=True)
    forgiving.feed(decode(data, name).text.encode("utf-8", errors="replace") if data.strip() else b"<p></p>")
    return str(forgiving.close())


def _by_number(entity: re.Match[bytes]) -> bytes:
    """HTML's named characters by their numbers, which XML knows without any definition."""
    name = entity[1]
    characters = None if name in _OF_XML else html5.get(f"{name.decode('ascii')};")
    return (
        entity[0] if characters is None else "".join(f"&#{ord(one)};" for one in characters).encode("ascii")
    )


class _Shown:
    """What the parser tells of a chapter -> its text, without what is not in its body."""

    def __init__(self) -> None:
        self._shown = ShownText()
        self._in_head = False

    def start(self, tag: str, attributes: Mapping[Any, Any]) -> None:
        name = _local(tag)
        self._in_head = self._in_head or name == "head"
        if not self._in_head:
            self._shown.start(name, {_local(str(key)): str(value) for key, value in attributes.items()})

    def end(self, tag: str) -> None:
        name = _local(tag)
        if not self._in_head:
            self._shown.end(name)
        self._in_head = self._in_head and name != "head"

    def data(self, text: str) -> None:
        if not self._in_head:
            self._shown.data(text)

    def comment(self, _text: str) -> None:
        pass

    def pi(self, _target: str, _data: str | None = None) -> None:
        pass

    def close(self) -> str:
        return "".join(piece.text for piece in self._shown.close())


def _local(name: str) -> str:
    return name.rpartition("}")[2].lower()


def _without_text(name: str, n_chapters: int, missing: int) -> str:
    if missing == n_chapters and missing:
        return f"{name} lacks its {count(n_chapters, 'chapter')}; get it again."
    if n_chapters:
        return f"{name} has {count(n_chapters, 'chapter')} but no text in them: it is a book of pictures."
    return f"{name} is an EPUB without chapters; get it again."


def _notices(name: str, n_chapters: int, missing: int) -> tuple[str, ...]:
    if not missing:
        return ()
    return (f"{name}: {missing:,} of its {count(n_chapters, 'chapter')} are not in the file.",)
