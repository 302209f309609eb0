"""The formats that are read, in one table: told by content first, then by the name's ending."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath

from ropewalk.documents.document import OnProgress, Reading, Source
from ropewalk.documents.pdf import is_pdf, read_pdf
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
    """

    name: str
    read: Callable[[Source, OnProgress], Reading]
    recognises: Callable[[bytes], bool]
    suffixes: tuple[str, ...] = ()


def never(_data: bytes) -> bool:
    """The content does not tell."""
    return False


TEXT = Format("text", read_text, never)
"""What everything else is tried as."""

FORMATS: tuple[Format, ...] = (Format("PDF", read_pdf, is_pdf, (".pdf",)),)
"""All but plain text; the first that recognises a file reads it. (name, reader, recognises, endings)"""


def format_of(source: Source) -> Format:
    """Which format a file is of: the first that recognises its content, else by its ending, else text."""
    for known in FORMATS:
        if known.recognises(source.data):
            return known
    suffix = PurePath(source.name).suffix.lower()
    return next((known for known in FORMATS if suffix in known.suffixes), TEXT)
