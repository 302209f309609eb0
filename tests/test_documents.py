"""Text files in whatever encoding, and files that are none."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.documents import DocumentError, read_documents
from ropewalk.documents.document import Reading, Source
from ropewalk.documents.encodings import decode
from ropewalk.documents.text import read_text


def text_of(data: bytes, name: str) -> str:
    reading: Reading = read_text(Source(name, data), lambda _done, _total: None)
    return "".join(piece.text for piece in reading.pieces)


GREETING = "Grüße aus Łódź – “naïve” café.\n"


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (GREETING.encode("utf-8"), "UTF-8"),
        (b"\xef\xbb\xbf" + GREETING.encode("utf-8"), "UTF-8"),
        (b"\xff\xfe" + GREETING.encode("utf-16-le"), "UTF-16"),
        (b"\xfe\xff" + GREETING.encode("utf-16-be"), "UTF-16"),
        (b"\xff\xfe\x00\x00" + GREETING.encode("utf-32-le"), "UTF-32"),
        (b"\x00\x00\xfe\xff" + GREETING.encode("utf-32-be"), "UTF-32"),
    ],
)
def test_unicode_is_read_without_a_notice(data: bytes, encoding: str) -> None:
    document = decode(data, "letter.txt")
    assert (document.text, document.encoding, document.notice) == (GREETING, encoding, None)


def test_windows_1252_is_read_with_a_notice() -> None:
    document = decode(b"caf\xe9 \x93quoted\x94 costs 5 \x80\n", "menu.txt")
    assert document.text == "café “quoted” costs 5 €\n"
    assert document.encoding == "Windows-1252"
    assert document.notice is not None and "menu.txt" in document.notice and "Windows-1252" in document.notice


def test_bytes_that_windows_1252_lacks_are_latin_1() -> None:
    document = decode(b"caf\xe9 \x81 na\xefve", "menu.txt")
    assert (document.text, document.encoding) == ("café \x81 naïve", "Latin-1")


def test_utf8_cut_in_a_character_stays_utf8() -> None:
    document = decode(("žluťoučký kůň " * 20).encode("utf-8")[:-2], "kun.txt")
    assert document.encoding == "UTF-8"
    assert document.text.startswith("žluťoučký kůň ")
    assert document.notice is not None and "1 damaged" in document.notice


def test_line_ends_become_newlines() -> None:
    assert text_of(b"a\r\nb\rc\n", "x") == "a\nb\nc\n"


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "empty"),
        (b" \n\t\r\n", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        (b"GGUF\x03\x00\x00\x00", "binary"),
        (bytes(range(1, 32)) * 10, "binary"),
        (b"\xff\xfea", "UTF-16"),
    ],
)
def test_what_is_no_text_is_refused_by_name(data: bytes, word: str) -> None:
    with pytest.raises(DocumentError, match=word) as caught:
        text_of(data, "thing.bin")
    assert "thing.bin" in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1).filter(lambda text: text.strip()))
def test_any_utf8_text_comes_back(text: str) -> None:
    if text.startswith("\ufeff") or text.startswith("%PDF-"):
        return
    assert text_of(text.encode("utf-8"), "x") == text


@given(st.binary())
def test_any_bytes_are_text_or_refused(data: bytes) -> None:
    try:
        assert text_of(data, "x").strip()
    except DocumentError as error:
        assert str(error).startswith("x ")


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_bytes(GREETING.encode())
    assert read_documents([str(path)]).text == GREETING
    with pytest.raises(DocumentError, match=r"missing\.txt: no such file"):
        read_documents([str(tmp_path / "missing.txt")])
    assert read_documents([str(tmp_path)]).text == f"==> {path} <==\n{GREETING}"
    with pytest.raises(DocumentError, match="cannot be read"):
        read_documents([str(path / "below.txt")])
