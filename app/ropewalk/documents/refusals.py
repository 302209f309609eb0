"""Files that are no documents, or of formats that are not read: what they are, and what to do instead."""

from __future__ import annotations

import codecs
import io
import zipfile
from pathlib import PurePath

from ropewalk.documents.document import BinaryFileError

_UNPACK = "is {}, not a document; unpack it and name what is in it."
_AS_PDF = "is {}, which is not read; save it as PDF or plain text."
_AS_DOCX = "is {}, which is not read; save it as .docx or PDF."
_AS_CSV = "is {}, which is not read; save it as CSV."
_IMAGE = "is {}, and pictures are not read; run text recognition (OCR) on it and name the text."
_SOUND = "is {}, and sound and film are not read; name a transcript or the subtitles (.srt)."
_MODEL = "is {}, not a document; the model comes first, then the files to read."
_NO_TEXT = "is {}, not text; name a text file."

_MAGIC: tuple[tuple[int, bytes, str, str], ...] = (  # (offset, bytes there, what it is, sentence)
    (0, b"\x1f\x8b", "a gzip file", _UNPACK),
    (4, b"1AY&SY", "a bzip2 file", _UNPACK),
    (0, b"\xfd7zXZ\0", "an xz file", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard file", _UNPACK),
    (0, b"\x04\x22\x4d\x18", "an LZ4 file", _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (0, b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (0, b"MSCF\0\0\0\0", "a cabinet archive", _UNPACK),
    (0, b"!<arch>\n", "an ar archive", _UNPACK),
    (257, b"ustar", "a tar archive", _UNPACK),
    (0, b"\x89PNG\r\n\x1a\n", "a PNG picture", _IMAGE),
    (0, b"\xff\xd8\xff", "a JPEG picture", _IMAGE),
    (0, b"GIF87a", "a GIF picture", _IMAGE),
    (0, b"GIF89a", "a GIF picture", _IMAGE),
    (0, b"II*\0", "a TIFF picture", _IMAGE),
    (0, b"MM\0*", "a TIFF picture", _IMAGE),
    (8, b"WEBP", "a WebP picture", _IMAGE),
    (4, b"ftypheic", "a HEIC picture", _IMAGE),
    (4, b"ftypavif", "an AVIF picture", _IMAGE),
    (0, b"AT&TFORM", "a DjVu file", _AS_PDF),
    (0, b"%!PS", "a PostScript file", "is {}, which is not read; make a PDF of it (ps2pdf)."),
    (0, b"ID3", "an MP3 file", _SOUND),
    (0, b"fLaC", "a FLAC file", _SOUND),
    (0, b"OggS", "an Ogg file", _SOUND),
    (8, b"WAVEfmt", "a WAV file", _SOUND),
    (4, b"ftyp", "an MP4 file", _SOUND),
    (0, b"\x1aE\xdf\xa3", "a Matroska or WebM file", _SOUND),
    (8, b"AVI LIST", "an AVI file", _SOUND),
    (0, b"GGUF", "a model file (GGUF)", _MODEL),
    (0, b"SQLite format 3\0", "an SQLite database", "is {}; name a text that was exported from it."),
    (0, b"\x7fELF", "a program", _NO_TEXT),
    (60, b"BOOKMOBI", "a Kindle book", "is {}, which is not read; make an EPUB of it (Calibre)."),
    (0, b"{\\rtf", "an RTF file", _AS_DOCX),
)
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # Word, Excel, PowerPoint before 2007; encrypted ones since
_OLE_SUFFIXES = {
    ".doc": ("a Word file of the old format", _AS_DOCX),
    ".xls": ("an Excel file of the old format", _AS_CSV),
    ".ppt": ("a PowerPoint file of the old format", _AS_PDF),
    ".msg": ("an Outlook message", "is {}, which is not read; save it as text."),
}
_ZIP_ENTRIES = (  # what a ZIP file must hold to be each
    ("xl/workbook.xml", "an Excel file", _AS_CSV),
    ("xl/workbook.bin", "an Excel file", _AS_CSV),
    ("ppt/presentation.xml", "a PowerPoint file", _AS_PDF),
)
_OPEN_DOCUMENT = {
    "application/vnd.oasis.opendocument.text": ("an OpenDocument text", _AS_DOCX),
    "application/vnd.oasis.opendocument.spreadsheet": ("an OpenDocument table", _AS_CSV),
    "application/vnd.oasis.opendocument.presentation": ("an OpenDocument presentation", _AS_PDF),
}
_LONGEST_MIMETYPE = 200
_WRITTEN = {"a PostScript file", "an RTF file"}  # whose bytes are letters
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b"))
_HEAD = 4096


def refuse_what_is_no_document(data: bytes, name: str) -> None:
    """Refuse archives, pictures, sound, models, databases, and office files that are not read, by content.

    Whatever a reader is there for has to be taken out before: EPUB and DOCX are ZIP files too.

    Args:
        data: the whole file.
        name: what to call it in messages; its ending tells the old office formats apart.

    Raises:
        BinaryFileError: it is one of them.
    """
    for offset, magic, kind, sentence in _MAGIC:
        if data.startswith(magic, offset) and (kind in _WRITTEN or not _is_written(data[:_HEAD])):
            raise _refusal(name, kind, sentence)
    if data[8:9] == b"{" and _may_be_length(data) and b'"dtype"' in data[:_HEAD]:
        raise _refusal(name, "a file of weights (safetensors)", _MODEL)
    if data.startswith(_OLE):
        if "EncryptedPackage".encode("utf-16-le") in data:
            raise _refusal(name, "an encrypted office file", "is {}; save it without a password.")
        kind, sentence = _OLE_SUFFIXES.get(
            PurePath(name).suffix.lower(), ("an office file of the old format", _AS_DOCX)
        )
        raise _refusal(name, kind, sentence)
    if is_zip(data):
        raise _refusal(name, *_kind_of_zip(data))


def is_zip(data: bytes) -> bool:
    """Whether it begins as a ZIP file does, as EPUB and DOCX do too."""
    return data[:4] in (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")


def _refusal(name: str, kind: str, sentence: str) -> BinaryFileError:
    return BinaryFileError(f"{name} {sentence.format(kind)}")


def _may_be_length(data: bytes) -> bool:
    """Whether the first eight bytes may be the length of a safetensors header."""
    return int.from_bytes(data[:8], "little") <= len(data) - 8


def _is_written(head: bytes) -> bool:
    """Whether this is text, which may begin with any word: `GGUF is a format of model files`."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return head.translate(None, _CONTROLS) == head


def _kind_of_zip(data: bytes) -> tuple[str, str]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = set(archive.namelist())
            for entry, kind, sentence in _ZIP_ENTRIES:
                if entry in entries:
                    return kind, sentence
            if "mimetype" in entries and archive.getinfo("mimetype").file_size < _LONGEST_MIMETYPE:
                mimetype = archive.read("mimetype").decode("ascii", errors="replace").strip()
                if mimetype in _OPEN_DOCUMENT:
                    return _OPEN_DOCUMENT[mimetype]
            if any(entry.startswith("Index/") and entry.endswith(".iwa") for entry in entries):
                return "an iWork file", _AS_PDF
    except Exception:  # damaged archives fail in many ways; they are archives all the same
        pass
    return "a ZIP archive", _UNPACK
