"""In which encoding a text file is: bytes to text."""

from __future__ import annotations

import codecs
import unicodedata
from dataclasses import dataclass

from ropewalk.documents.document import BinaryFileError, DocumentError
from ropewalk.documents.old_encodings import read_as_old_encoding

_BYTE_ORDER_MARKS = (  # UTF-32 first: its little-endian mark begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
_MARKLESS = (  # UTF-32 first: its NULs would fit UTF-16 as well
    ("utf-32-le", "UTF-32 (little-endian)"),
    ("utf-32-be", "UTF-32 (big-endian)"),
    ("utf-16-le", "UTF-16 (little-endian)"),
    ("utf-16-be", "UTF-16 (big-endian)"),
)
_TEXT_CONTROLS = frozenset(b"\t\n\v\f\r\x08\x1a\x1b")
_MAX_CONTROL_SHARE = 0.02
_MAX_DAMAGED_SHARE = 0.02  # of a text whose byte order mark says what it must be
_MIN_ASCII_SHARE = 0.005  # of UTF-32: line ends, if nothing else
_FEWEST_NULS, _MIN_NUL_SHARE = 2, 0.02  # that UTF-16 has, in line ends and spaces
_MAX_SMALL_SHARE = 0.6  # of small letters and spaces; in UTF-16 they are half of all bytes at most
_UNWRITTEN = ("Cn", "Co", "Cs")  # unassigned, private, half of a pair
_REPLACEMENT = "\ufffd"
_SAMPLE = 1 << 16
_SHORT_HEAD = 4096  # of fewer bytes the share of controls is not that of the file
_ISO_2022_JP = (b"\x1b$B", b"\x1b$@", b"\x1b(J")  # how it turns to Japanese and back: all of it is ASCII


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


def decode(data: bytes, name: str) -> Decoded:
    """Turn a file's bytes into its text.

    A byte order mark decides. Without one: UTF-16 or UTF-32 where NULs stand as they do there, UTF-8 where
    that fits, a few damaged bytes replaced, else the old encoding that looks most like a language.

    Args:
        data: the whole file.
        name: what to call it in messages.

    Raises:
        BinaryFileError: it is no text.
        DocumentError: it does not fit what its byte order mark says.
    """
    marked = _marked(data, name)
    if marked is not None:
        return marked
    if b"\0" in data:
        return _without_mark(data, name)
    refuse_controls(data, name)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return _damaged_utf8(data, name) or Decoded(*read_as_old_encoding(data, name))
    if any(escape in data for escape in _ISO_2022_JP):
        try:
            japanese = data.decode("iso2022_jp")
        except UnicodeDecodeError:
            return Decoded(text, "UTF-8")
        return Decoded(japanese, "ISO-2022-JP", f"{name} is not UTF-8; read as ISO-2022-JP.")
    return Decoded(text, "UTF-8")


def refuse_controls(data: bytes, name: str) -> None:
    """Refuse what holds more control characters than any text does.

    Raises:
        BinaryFileError: it does.
    """
    controls = sum(data.count(code) for code in range(32) if code not in _TEXT_CONTROLS)
    if controls > _MAX_CONTROL_SHARE * len(data):
        raise BinaryFileError(f"{name} is binary, not text; name a text file.")


def begins_binary(head: bytes) -> bool:
    """Whether a file that begins like this is no text, whatever follows; in doubt it is not said to be."""
    if any(head.startswith(mark) for mark, _, _ in _BYTE_ORDER_MARKS):
        return False
    if b"\0" in head:
        return not any(_looks_written(head.decode(codec, errors="ignore")) for codec, _ in _MARKLESS)
    try:
        refuse_controls(head, "")
    except BinaryFileError:
        return len(head) > _SHORT_HEAD
    return False


def _marked(data: bytes, name: str) -> Decoded | None:
    fitting = [(codec, encoding) for mark, codec, encoding in _BYTE_ORDER_MARKS if data.startswith(mark)]
    if not fitting:
        return None
    codec, encoding = fitting[0]
    try:
        return Decoded(data.decode(codec), encoding)
    except UnicodeDecodeError as error:
        text = data.decode(codec, errors="replace")
        n_damaged = text.count(_REPLACEMENT)
        if n_damaged > _MAX_DAMAGED_SHARE * len(text):
            raise DocumentError(
                f"{name} starts as {encoding} but byte {error.start:,} does not fit; save it as UTF-8."
            ) from None
        return Decoded(text, encoding, _damage(name, encoding, n_damaged))


def _damage(name: str, encoding: str, n_damaged: int) -> str:
    places = "place" if n_damaged == 1 else "places"
    return f"{name} has {n_damaged:,} damaged {encoding} {places}, shown as {_REPLACEMENT}."


def _damaged_utf8(data: bytes, name: str) -> Decoded | None:
    text = data.decode("utf-8", errors="replace")
    n_damaged = text.count(_REPLACEMENT)
    n_others = len(text) - len(text.encode("ascii", errors="ignore")) - n_damaged
    return Decoded(text, "UTF-8", _damage(name, "UTF-8", n_damaged)) if n_damaged < n_others else None


def _without_mark(data: bytes, name: str) -> Decoded:
    """Read what has NULs: UTF-16 or UTF-32 without a mark, or no text.

    Raises:
        BinaryFileError: it is no text.
    """
    best: tuple[int, str, str] | None = None
    for codec, encoding in () if _is_ascii_with_nuls(data[:_SAMPLE]) else _MARKLESS:
        width = 4 if "32" in codec else 2
        try:
            sample = data[:_SAMPLE].decode(codec)
        except UnicodeDecodeError as error:
            if len(data) <= _SAMPLE or error.start < _SAMPLE - width:
                continue
            sample = data[: error.start].decode(codec)
        if _looks_written(sample):
            n_ascii = sum(character < "\x80" for character in sample)
            n_spaces = sum(character in " \n\r\t" for character in sample)
            nuls = data[:_SAMPLE].count(0)
            enough = n_ascii * 2 >= nuls if width == 2 else n_ascii >= _MIN_ASCII_SHARE * len(sample)
            if enough and (best is None or n_spaces + n_ascii > best[0]):
                best = n_spaces + n_ascii, codec, encoding
    if best is not None:
        _, codec, encoding = best
        try:
            text = data.decode(codec)
        except UnicodeDecodeError:
            pass
        else:
            if "\0" not in text:
                return Decoded(text, encoding, f"{name} has no byte order mark; read as {encoding}.")
    raise BinaryFileError(f"{name} is binary, not text; name a text file.")


def _is_ascii_with_nuls(data: bytes) -> bool:
    """Whether this is words of ASCII with some NULs in between, which UTF-16 would make Chinese of."""
    if data.count(0) < max(_FEWEST_NULS, _MIN_NUL_SHARE * len(data)):
        return True
    small = sum(byte in b"abcdefghijklmnopqrstuvwxyz \n" for byte in data)
    return small > _MAX_SMALL_SHARE * len(data)


def _looks_written(text: str) -> bool:
    """Whether a text has letters, and nothing that nobody writes: NULs, unassigned characters, controls."""
    if "\0" in text:
        return False
    has_letters = False
    for character in text:
        kind = unicodedata.category(character)
        if kind in _UNWRITTEN or (kind == "Cc" and character not in "\t\n\v\f\r"):
            return False
        has_letters = has_letters or kind[0] == "L"
    return has_letters
