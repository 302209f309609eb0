"""Plain text, and everything that is read as it is written: Markdown, source code, tables, logs."""

from __future__ import annotations

from ropewalk.documents.document import EmptyFileError, OnProgress, Piece, Reading, Source
from ropewalk.documents.encodings import decode


def read_text(source: Source, on_progress: OnProgress) -> Reading:
    """Read plain text, as it is written.

    Raises:
        BinaryFileError: it is no text.
        EmptyFileError: there is none in it.
        DocumentError: it is damaged where its byte order mark says what it must be.
    """
    decoded = decode(source.data, source.name)
    text = with_newlines(decoded.text)
    if not text.strip():
        raise EmptyFileError(f"{source.name} is empty; name a file with text in it.")
    on_progress(1, 1)
    return Reading((Piece(text),), () if decoded.notice is None else (decoded.notice,))


def with_newlines(text: str) -> str:
    r"""A text with `\n` for all line ends."""
    return text.replace("\r\n", "\n").replace("\r", "\n")
