"""Files that are no documents: each is refused by what it is, whatever it is called."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from pathlib import Path

import pytest

from ropewalk.documents import DocumentError, read_documents

TEXT = b"The first line.\nThe second line.\n"


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("inner.txt"))
    return buffer.getvalue()


def zipped(**entries: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.zip", zipped(a_txt=TEXT), "a ZIP archive unpack"),
        ("nested.zip", zipped(inner_zip=zipped(a_txt=TEXT)), "a ZIP archive unpack"),
        ("a.txt", zipped(a_txt=TEXT)[:-9], "a ZIP archive unpack"),
        ("a.tar", tar(), "a tar archive unpack"),
        ("a.tar.gz", gzip.compress(tar()), "a gzip file unpack"),
        ("a.bz2", bz2.compress(TEXT * 99), "a bzip2 file unpack"),
        ("a.xz", lzma.compress(TEXT), "an xz file unpack"),
        ("a.7z", b"7z\xbc\xaf\x27\x1c\0\4" + bytes(30), "a 7z archive unpack"),
        ("a.rar", b"Rar!\x1a\x07\x01\0" + bytes(30), "a RAR archive unpack"),
        ("a.xlsx", zipped(xl__workbook_xml=b"<x/>"), "an Excel file CSV"),
        ("a.pptx", zipped(ppt__presentation_xml=b"<x/>"), "a PowerPoint file PDF"),
        ("a.odt", zipped(mimetype=b"application/vnd.oasis.opendocument.text"), "an OpenDocument text .docx"),
        ("a.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "a Word file of the old format .docx"),
        ("a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "an Excel file of the old format CSV"),
        ("a.rtf", b"{\\rtf1\\ansi text}", "an RTF file .docx"),
        ("a.ps", b"%!PS-Adobe-3.0\n", "a PostScript file ps2pdf"),
        ("a.png", b"\x89PNG\r\n\x1a\n" + bytes(30), "a PNG picture OCR"),
        ("a.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF\0", "a JPEG picture OCR"),
        ("a.webp", b"RIFF\x10\0\0\0WEBPVP8 ", "a WebP picture OCR"),
        ("a.mp3", b"ID3\x03\0\0\0\0\0\0", "an MP3 file transcript"),
        ("a.wav", b"RIFF\x10\0\0\0WAVEfmt \0", "a WAV file transcript"),
        ("a.mp4", b"\0\0\0\x20ftypisom\0\0", "an MP4 file transcript"),
        ("a.heic", b"\0\0\0\x20ftypheic\0\0", "a HEIC picture OCR"),
        ("a.gguf", b"GGUF\3\0\0\0" + bytes(20), "a model file (GGUF) comes first"),
        (
            "a.safetensors",
            b"\x40\0\0\0\0\0\0\0" + b'{"a":{"dtype":"F32"}}'.ljust(80),
            "safetensors",
        ),
        ("a.db", b"SQLite format 3\0" + bytes(90), "an SQLite database exported"),
        ("a.out", b"\x7fELF\x02\x01\x01\0" + bytes(90), "a program text file"),
        ("a.bin", bytes(range(256)) * 40, "binary"),
        ("a.txt", b"", "empty"),
        ("a.txt", b"\n \t\r\n\x0c\n", "empty"),
    ],
)
def test_what_is_no_document_is_refused_by_what_it_is(
    tmp_path: Path, name: str, data: bytes, words: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(DocumentError) as caught:
        read_documents([str(path)])
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".")
    assert message.startswith(str(path))
    assert all(word in message for word in words.split())


@pytest.mark.parametrize(
    "beginning", ["GGUF is a format", "ID3 tags", "PNG", "OggS!", "fLaC", "7z", "Rar! files", "MM"]
)
def test_a_text_may_begin_with_any_word(tmp_path: Path, beginning: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text(beginning)
    assert read_documents([str(path)]).text == beginning
