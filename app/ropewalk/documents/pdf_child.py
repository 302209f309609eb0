"""The process that reads a PDF: `main()`, told what to read over stdin and argv, answers with JSON lines.

PDFium is native code, and what it is given comes from anywhere. Here a crash ends this process alone, and a
page that takes for ever can be killed. The answers, in this order:

    {"pages": N}                                  the file is open
    {"text": "...", "drawn": true}                one for each page; drawn: it has something on it
    {"error": "..."}                              instead of either: why it cannot be opened

Stdin stays open as long as the owner lives: where it ends, this process does.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    import pypdfium2

LENGTH_BYTES = 8
"""What precedes a PDF's bytes on stdin: their number, little-endian; 0 where it is to be read by its path."""

PASSWORD, DAMAGED, EMPTY, MEMORY, UNREADABLE = "password", "damaged", "empty", "memory", "unreadable"

_PASSWORD_CODES = (4, 5)  # FPDF_ERR_PASSWORD, FPDF_ERR_SECURITY (an encryption that PDFium does not know)
_SUCCESS, _FILE_ERROR = 0, 2


def main() -> None:
    """Reads the PDF at `sys.argv[1]`, or the bytes on stdin, and writes its pages to stdout."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the owner's business
    _no_core_dumps()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a stray print of native code must not get between the answers
    orders = sys.stdin.buffer
    size = int.from_bytes(orders.read(LENGTH_BYTES), "little")
    source: bytes | str = orders.read(size) if size else sys.argv[1]
    threading.Thread(target=_end_with_owner, args=(orders,), daemon=True).start()
    try:
        _read(source, answers)
    except MemoryError:
        _answer(answers, {"error": MEMORY})
    except BrokenPipeError:
        pass
    os._exit(0)  # without PDFium's tidying up of a document that may be damaged


def _read(source: bytes | str, answers: BinaryIO) -> None:
    import pypdfium2  # noqa: PLC0415  # native code: only once the owner is watched

    try:
        pdf = pypdfium2.PdfDocument(_openable(source))
    except pypdfium2.PdfiumError as error:
        _answer(answers, {"error": _reason(error.err_code)})
        return
    except OSError:
        _answer(answers, {"error": UNREADABLE})
        return
    n_pages = len(pdf)
    _answer(answers, {"pages": n_pages})
    for number in range(n_pages):
        try:
            page = _filled_in(pdf, number)
            text_page = page.get_textpage()
        except pypdfium2.PdfiumError:
            _answer(answers, {"text": "", "drawn": True})  # this page is damaged, others may not be
            continue
        text = text_page.get_text_bounded(errors="replace")
        drawn = bool(text.strip()) or next(iter(page.get_objects(max_depth=1)), None) is not None
        _answer(answers, {"text": text, "drawn": drawn})
        text_page.close()
        page.close()


def _openable(source: bytes | str) -> bytes | str | BinaryIO:
    """What PDFium can be given: it takes paths as UTF-8, which not every file's name is."""
    if isinstance(source, str):
        try:
            source.encode()
        except UnicodeEncodeError:
            return Path(source).open("rb")  # open as long as this process
    return source


def _filled_in(pdf: pypdfium2.PdfDocument, number: int) -> pypdfium2.PdfPage:
    """A page; what was filled into its form, or typed on it, is made part of it: else it would be no text."""
    from pypdfium2 import raw  # noqa: PLC0415  # as above

    page = pdf[number]
    for i in range(raw.FPDFPage_GetAnnotCount(page)):
        annotation = raw.FPDFPage_GetAnnot(page, i)
        if not annotation:
            continue
        kind = raw.FPDFAnnot_GetSubtype(annotation)
        raw.FPDFPage_CloseAnnot(annotation)
        if kind in (raw.FPDF_ANNOT_WIDGET, raw.FPDF_ANNOT_FREETEXT):
            raw.FPDFPage_Flatten(page, raw.FLAT_NORMALDISPLAY)
            page.close()
            return pdf[number]  # as it is now
    return page


def _reason(code: int | None) -> str:
    if code in _PASSWORD_CODES:
        return PASSWORD
    if code == _FILE_ERROR:
        return UNREADABLE
    return EMPTY if code in (None, _SUCCESS) else DAMAGED


def _answer(answers: BinaryIO, answer: dict[str, object]) -> None:
    answers.write(json.dumps(answer).encode("ascii") + b"\n")
    answers.flush()


def _end_with_owner(orders: BinaryIO) -> None:
    orders.read()
    os._exit(0)


def _no_core_dumps() -> None:
    try:
        import resource  # noqa: PLC0415  # POSIX only
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
