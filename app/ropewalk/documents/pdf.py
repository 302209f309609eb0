"""PDF: the text of each page, with the numbers of pages as the file counts them, from 1.

PDFium reads it, in a process of its own, from the file itself and a page at a time; forms are read as they
are filled in. `pdf_text.py` says what is done with what comes out. The numbers printed on the pages (`xii`,
`A-3`) are not looked at: a viewer's "go to page" takes the ones that are used here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ropewalk.documents import pdf_child
from ropewalk.documents.document import DocumentError, OnProgress, Piece, Reading, Source
from ropewalk.documents.pdf_process import (
    PATIENCE_SECONDS,
    Opened,
    Page,
    PdfProcessError,
    Refused,
    answers,
)
from ropewalk.documents.pdf_text import clean_pages, share_unknown
from ropewalk.wording.quantities import count, ranges

_BEFORE = b"\xef\xbb\xbf \t\r\n\f\0"  # what some programs put before a PDF; the ending tells stranger ones
_HEAD_BYTES = 1024
_NAMED_RANGES = 8
_MAX_SHARE_UNKNOWN = 0.05

_REFUSALS = {
    pdf_child.PASSWORD: "{name} is encrypted: save a copy without the password first "
    "(qpdf --password=... --decrypt {name} copy.pdf).",
    pdf_child.DAMAGED: "{name} is damaged, or not a PDF; get it again, or try to repair it "
    "(qpdf {name} copy.pdf).",
    pdf_child.EMPTY: "{name} is a PDF without pages; get it again.",
    pdf_child.MEMORY: "{name} needs more memory to open than there is; close other programs, or split it.",
    pdf_child.UNREADABLE: "{name} cannot be read; check its permissions (ls -l).",
}


def is_pdf(data: bytes) -> bool:
    """Whether bytes are a PDF's."""
    return data[:_HEAD_BYTES].lstrip(_BEFORE).startswith(b"%PDF-")


def read_pdf(source: Source, on_progress: OnProgress) -> Reading:
    """The text of a PDF, a piece for each page; progress in pages.

    Raises:
        DocumentError: it is encrypted, damaged, has no pages or no text, or PDFium died or hung on it.
    """
    name = source.name
    pages = _pages(source.path or source.data, name, on_progress)
    texts = clean_pages(page.text for page in pages)
    without_text = tuple(
        number
        for number, (text, page) in enumerate(zip(texts, pages, strict=True), 1)
        if not text and page.drawn
    )
    if not any(texts):
        raise DocumentError(
            f"{name} has {count(len(pages), 'page')} but no text: they are pictures, as of a scanner; "
            f"recognize their text first (ocrmypdf {name} copy.pdf)."
            if without_text
            else f"{name} has {count(len(pages), 'page')}, all of them blank; name a file with text in it."
        )
    pieces = tuple(Piece(text + "\n", page=number) for number, text in enumerate(texts, 1) if text)
    garbled = tuple(
        number for number, text in enumerate(texts, 1) if share_unknown(text) > _MAX_SHARE_UNKNOWN
    )
    return Reading(pieces, tuple(_notices(name, without_text, garbled, len(pages))))


def _pages(source: Path | bytes, name: str, on_progress: OnProgress) -> list[Page]:
    pages: list[Page] = []
    total = 0

    def tell() -> None:
        on_progress(len(pages), max(1, total))

    try:
        for answer in answers(source, tell, PATIENCE_SECONDS):
            match answer:
                case Refused():
                    raise DocumentError(_REFUSALS[answer.reason].format(name=name))
                case Opened():
                    total = answer.n_pages
                case Page():
                    pages.append(answer)
            tell()
    except PdfProcessError as error:
        where = f"page {error.n_pages + 1} of {name}" if total else name
        what = "takes for ever" if error.hung else "is damaged so that reading it fails"
        raise DocumentError(f"{where} {what}; try to repair the file (qpdf in.pdf out.pdf).") from None
    return pages


def _notices(name: str, without_text: Sequence[int], garbled: Sequence[int], n_pages: int) -> Iterator[str]:
    of = f"of {count(n_pages, 'page')}"
    if without_text:
        yield (
            f"{name}: {len(without_text):,} {of} have no text and are left out, perhaps scans "
            f"({_named(without_text)}); ocrmypdf adds what it recognizes."
        )
    if garbled:
        yield (
            f"{name}: the fonts of {len(garbled):,} {of} do not say which letters they show "
            f"({_named(garbled)}), so that text is missing or wrong there; ocrmypdf --force-ocr mends it."
        )


def _named(pages: Sequence[int]) -> str:
    """`pages 2, 4-5`."""
    named = ranges(tuple(pages)).split(", ")
    which = ", ".join(named[:_NAMED_RANGES]) + (", ..." if len(named) > _NAMED_RANGES else "")
    return f"page{'s' * (len(pages) > 1)} {which}"
