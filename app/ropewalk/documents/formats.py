"""The formats that are read, in one table: told by content first, then by the name's ending."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath

from ropewalk.documents.document import BinaryFileError, OnProgress, Reading, Source
from ropewalk.documents.docx import is_docx, read_docx
from ropewalk.documents.encodings import begins_binary
from ropewalk.documents.epub import is_epub, read_epub
from ropewalk.documents.html import is_html, read_html
from ropewalk.documents.pdf import is_pdf, read_pdf
from ropewalk.documents.refusals import is_zip, refuse_what_is_no_document
from ropewalk.documents.text import read_text


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
        name: what people call it.
        read: makes text of a file. It is told of its own progress in units of its own (pages, chapters); an
            error that this callback raises passes through. Raises `DocumentError` for a file that cannot be
            read: damaged, encrypted, without text. The library it uses is imported inside of it.
        recognises: whether bytes are of this format, by what they begin with or hold; it never raises. Where
            the bytes do not tell (`never`), the ending decides.
        suffixes: endings of names, in small letters, with the dot.
        by_path: whether it is told by its beginning and read from its path, so that a file of any length need
            not be in memory.
    """

    name: str
    read: Callable[[Source, OnProgress], Reading]
    recognises: Callable[[bytes], bool]
    suffixes: tuple[str, ...] = ()
    by_path: bool = False


def never(_data: bytes) -> bool:
    """The content does not tell."""
    return False


TEXT = Format("text", read_text, never)
"""What everything else is tried as."""

HTML = Format("HTML", read_html, is_html, (".html", ".htm", ".xhtml"))

FORMATS: tuple[Format, ...] = (
    Format("PDF", read_pdf, is_pdf, (".pdf",), by_path=True),
    Format("EPUB", read_epub, is_epub, (".epub",)),
    Format("DOCX", read_docx, is_docx, (".docx", ".docm", ".dotx", ".dotm")),
    HTML,
)
"""All but plain text; the first that recognises a file reads it. (name, reader, recognises, endings)"""


def format_of(source: Source) -> Format:
    """Which format a file is of: the first that recognises its content, else by its ending, else text.

    Raises:
        BinaryFileError: its content is of a kind that is not read, an archive, a picture.
    """
    for known in FORMATS:
        if known.recognises(source.data):
            return known
    by_ending = _by_ending(source.name)
    if by_ending is None or by_ending is HTML or not is_zip(source.data):  # else it says itself what is wrong
        refuse_what_is_no_document(source.data, source.name)
    return by_ending or TEXT


def as_written(source: Source) -> Format:
    """The same for a file of source code: a page is read as it is written there, tags and all.

    Raises:
        BinaryFileError: its content is of a kind that is not read.
    """
    known = format_of(source)
    return TEXT if known is HTML else known


def is_read_by_path(head: bytes) -> bool:
    """Whether a file that begins like this is read from its path, so that the rest need not be in memory."""
    return any(known.by_path and known.recognises(head) for known in FORMATS)


def is_surely_binary(head: bytes, name: str) -> bool:
    """Whether a file that begins like this is of no format that is read, so that the rest need not be."""
    if _by_ending(name) is not None or is_zip(head) or any(known.recognises(head) for known in FORMATS):
        return False
    try:
        refuse_what_is_no_document(head, name)
    except BinaryFileError:
        return True
    return begins_binary(head)


def _by_ending(name: str) -> Format | None:
    suffix = PurePath(name).suffix.lower()
    return next((known for known in FORMATS if suffix in known.suffixes), None)
