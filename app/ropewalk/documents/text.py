"""Plain text files: bytes to text, whatever encoding they are in."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

from ropewalk.documents.document import DocumentError, OnProgress, Piece, Reading, Source

_BYTE_ORDER_MARKS = (  # UTF-32 first: its little-endian mark begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
_TEXT_CONTROLS = frozenset(b"\t\n\v\f\r\x08\x1a\x1b")
_MAX_CONTROL_SHARE = 0.02
_REPLACEMENT = "�"


@dataclass(frozen=True)
class Decoded:
    """Bytes as text.

    Attributes:
        text: all of it, line ends as they were.
        encoding: the encoding it was in.
        notice: what the person should know about how it was read, a sentence; None if nothing.
    """

    text: str
    encoding: str
    notice: str | None = None


def read_text(source: Source, on_progress: OnProgress) -> Reading:
    """Read plain text, as it is written.

    Raises:
        DocumentError: it is binary or empty, or damaged where its mark says what it must be.
    """
    decoded = decode(source.data, source.name)
    text = decoded.text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise DocumentError(f"{source.name} is empty; name a file with text in it.")
    on_progress(1, 1)
    return Reading((Piece(text),), () if decoded.notice is None else (decoded.notice,))


def decode(data: bytes, name: str) -> Decoded:
    """Turn a file's bytes into its text.

    A byte order mark decides; without one it is UTF-8 where that fits (a few damaged bytes are replaced),
    else Windows-1252, else Latin-1, with a notice.

    Args:
        data: the whole file.
        name: what to call it in messages.

    Raises:
        DocumentError: it is binary, or damaged where its mark says what it must be.
    """
    return Decoded(*_decode(data, name))


def _decode(data: bytes, name: str) -> tuple[str, str, str | None]:
    for mark, codec, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            try:
                return data.decode(codec), encoding, None
            except UnicodeDecodeError as error:
                raise DocumentError(
                    f"{name} starts as {encoding} but byte {error.start:,} does not fit; save it as UTF-8."
                ) from None
    _refuse_binary(data, name)
    try:
        return data.decode("utf-8"), "UTF-8", None
    except UnicodeDecodeError:
        pass
    damaged = data.decode("utf-8", errors="replace")
    n_damaged = damaged.count(_REPLACEMENT)
    if n_damaged < sum(character > "\x7f" for character in damaged) - n_damaged:
        return damaged, "UTF-8", f"{name} has {n_damaged:,} damaged UTF-8 places, shown as {_REPLACEMENT}."
    for codec, encoding in (("cp1252", "Windows-1252"), ("latin-1", "Latin-1")):
        try:
            text = data.decode(codec)
        except UnicodeDecodeError:
            continue
        return text, encoding, f"{name} is not UTF-8; read as {encoding}."
    raise AssertionError("Latin-1 decodes every byte")


def _refuse_binary(data: bytes, name: str) -> None:
    if data.startswith(b"%PDF-"):
        raise DocumentError(f"{name} is a PDF, and only text is read: convert it first (pdftotext).")
    controls = sum(data.count(code) for code in range(32) if code not in _TEXT_CONTROLS)
    if b"\0" in data or controls > _MAX_CONTROL_SHARE * len(data):
        raise DocumentError(f"{name} is binary, not text; name a text file.")
