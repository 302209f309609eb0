"""A document: its text, and where each part of the text came from."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

OnProgress = Callable[[int, int], None]
"""Told what is done and all there is to do; an error that it raises ends the reading."""


class DocumentError(Exception):
    """A file that cannot be read as a document; the message is a sentence that names it and the remedy."""


class BinaryFileError(DocumentError):
    """A file that is no document at all: a picture, an archive, a program."""


class EmptyFileError(DocumentError):
    """A file, or a folder, without any text."""


@dataclass(frozen=True)
class Place:
    """Where a passage stands.

    Attributes:
        file: the file, as it was named.
        page: its page, from 1; None in files without pages.
        line: its line, from 1: within the page where there are pages, else within the file.
        section: the title of the chapter, where the format knows it.
    """

    file: str
    page: int | None
    line: int | None
    section: str | None = None


@dataclass(frozen=True)
class Part:
    """A run of a document's text that comes from one place; it ends where the next part begins.

    Attributes:
        start: where it begins, an offset in `Document.text`.
        file: the file it comes from, as it was named.
        page: the page it comes from, from 1; None in files without pages.
        first_line: the line that it begins on, from 1, within the page where there are pages, else the file.
        section: the title of the chapter it belongs to, where the format knows it.
        header: whether it is the line put in to name the file, and no part of the file itself.
    """

    start: int
    file: str
    page: int | None
    first_line: int
    section: str | None = None
    header: bool = False


@dataclass(frozen=True)
class Document:
    r"""What a model reads: one file, or several joined.

    Attributes:
        name: what to call it.
        text: all of it, line ends as `\n`.
        parts: where the text comes from, by rising `start`; the first starts at 0.
        notices: what the person should know about how it was read, each a sentence.
    """

    name: str
    text: str
    parts: tuple[Part, ...]
    notices: tuple[str, ...] = ()

    @classmethod
    def of_text(cls, name: str, text: str) -> Document:
        """A document of one part."""
        return cls(name, text, (Part(0, name, None, 1),))

    def part_number(self, offset: int) -> int:
        """Which of `parts` an offset of the text belongs to.

        Raises:
            IndexError: the offset is outside of the text.
        """
        if not 0 <= offset <= len(self.text):
            raise IndexError(f"offset {offset} is outside of a text of {len(self.text)} characters")
        return max(0, bisect_right(self.parts, offset, key=lambda part: part.start) - 1)

    def part_end(self, number: int) -> int:
        """Where the part of this number ends: the offset behind its last character."""
        return self.parts[number + 1].start if number + 1 < len(self.parts) else len(self.text)

    def place(self, offset: int) -> Place:
        """Where the character at an offset of the text comes from.

        Raises:
            IndexError: the offset is outside of the text.
        """
        part = self.parts[self.part_number(offset)]
        line = part.first_line
        if not part.header:
            line += self.text.count("\n", part.start, offset)
        return Place(part.file, part.page, line, part.section)


@dataclass(frozen=True)
class Source:
    """A file's bytes, as the readers of the formats are given them.

    Attributes:
        name: what messages call it.
        data: all of it, or its first few kilobytes where its reader reads from the path (`Format.by_path`).
        path: where it lies; None for standard input.
    """

    name: str
    data: bytes
    path: Path | None = None


@dataclass(frozen=True)
class Piece:
    r"""A run of a file's text from one place.

    Attributes:
        text: it, line ends as `\n`; the pieces of a file are joined as they are, nothing is put between them.
        page: its page, from 1; None in formats without pages.
        first_line: the line it begins on, from 1, within the page where there are pages, else the file.
        section: the title of the chapter it belongs to, where the format knows it.
    """

    text: str
    page: int | None = None
    first_line: int = 1
    section: str | None = None


@dataclass(frozen=True)
class Reading:
    """What a reader makes of a file.

    Attributes:
        pieces: the text in order.
        notices: what the person should know, each a sentence that names the file.
    """

    pieces: tuple[Piece, ...]
    notices: tuple[str, ...] = ()

    @property
    def is_blank(self) -> bool:
        """Whether there is nothing to read in it."""
        return not any(piece.text.strip() for piece in self.pieces)


def joined(name: str, pieces: Iterable[tuple[str, bool, Piece]], notices: Iterable[str] = ()) -> Document:
    """Put pieces together to a document.

    Args:
        name: what to call it.
        pieces: (file, whether it is a line that names the file, piece), in order; empty pieces are left out.
        notices: what the person should know.
    """
    parts: list[Part] = []
    texts: list[str] = []
    start = 0
    for file, header, piece in pieces:
        if piece.text:
            parts.append(Part(start, file, piece.page, piece.first_line, piece.section, header))
            texts.append(piece.text)
            start += len(piece.text)
    return Document(name, "".join(texts), tuple(parts), tuple(notices))
