"""The process that reads a PDF (`pdf_child.py`), as seen from its owner."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ropewalk.documents.pdf_child import LENGTH_BYTES

CHILD = Path(__file__).with_name("pdf_child.py")
PATIENCE_SECONDS = 120.0
"""How long one page may take: PDFium needs milliseconds, seconds for maps and plans of buildings."""

_BEAT_SECONDS = 0.2

# As a file, not as a module: importing all of this package would cost more than reading most PDFs. The
# current directory and the file's are off the path: a stray `json.py`, or our `html.py`, must not be
# imported.
_START = (
    "import runpy, sys; sys.path[:] = [p for p in sys.path if p]; del sys.argv[0]; "
    "runpy.run_path(sys.argv[0])['main']()"
)


class PdfProcessError(Exception):
    """The process ended or hung.

    Attributes:
        hung: whether it said nothing for too long.
        n_pages: how many pages it had given.
    """

    def __init__(self, *, hung: bool, n_pages: int) -> None:
        """After `n_pages` pages."""
        super().__init__("hung" if hung else "ended")
        self.hung = hung
        self.n_pages = n_pages


@dataclass(frozen=True)
class Refused:
    """The PDF cannot be opened; `reason` is one of the constants of `pdf_child`."""

    reason: str


@dataclass(frozen=True)
class Opened:
    """The PDF is open and has this many pages."""

    n_pages: int


@dataclass(frozen=True)
class Page:
    """A page's text as PDFium gives it; `drawn`: whether there is anything on it."""

    text: str
    drawn: bool


def answers(
    source: Path | bytes, beat: Callable[[], None], patience: float
) -> Iterator[Refused | Opened | Page]:
    """Read a PDF in a process of its own: `Refused`, or `Opened` and then each `Page`.

    The process is gone when the iterator is, whatever ended it.

    Args:
        source: the file, or all its bytes.
        beat: called a few times a second; what it raises ends the reading.
        patience: how many seconds may go by without an answer.

    Raises:
        PdfProcessError: the process ended or hung.
    """
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            _START,
            str(CHILD),
            str(source.absolute()) if isinstance(source, Path) else "",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in a terminal reaches the owner alone
    )
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threads = [
        threading.Thread(target=_send, args=(process, source), daemon=True),
        threading.Thread(target=_receive, args=(process, lines), daemon=True),
    ]
    try:
        for thread in threads:
            thread.start()
        n_pages, expected = 0, -1
        while n_pages != expected:
            answer = _parsed(_next(lines, beat, patience, n_pages), n_pages)
            match answer:
                case Opened():
                    expected = answer.n_pages
                case Page():
                    n_pages += 1
            yield answer
            if isinstance(answer, Refused):
                return
    finally:
        process.kill()
        process.wait()
        for thread in threads:
            if thread.ident is not None:
                thread.join()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()


def _next(lines: queue.SimpleQueue[bytes], beat: Callable[[], None], patience: float, n_pages: int) -> bytes:
    """The next answer; `patience` is counted in beats, so that a suspended machine is no hang."""
    for _ in range(max(1, round(patience / _BEAT_SECONDS))):
        with contextlib.suppress(queue.Empty):
            return lines.get(timeout=_BEAT_SECONDS)
        beat()
    raise PdfProcessError(hung=True, n_pages=n_pages)


def _parsed(line: bytes, n_pages: int) -> Refused | Opened | Page:
    if not line.endswith(b"\n"):
        raise PdfProcessError(hung=False, n_pages=n_pages)
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        return Refused(answer["error"])
    if "pages" in answer:
        return Opened(answer["pages"])
    return Page(answer["text"], answer["drawn"])


def _send(process: subprocess.Popen[bytes], source: Path | bytes) -> None:
    """Gives the process its bytes; stdin stays open."""
    assert process.stdin is not None
    data = source if isinstance(source, bytes) else b""
    with contextlib.suppress(OSError):  # it is gone: whoever waits for its answers is told
        process.stdin.write(len(data).to_bytes(LENGTH_BYTES, "little"))
        process.stdin.write(data)
        process.stdin.flush()


def _receive(process: subprocess.Popen[bytes], lines: queue.SimpleQueue[bytes]) -> None:
    assert process.stdout is not None
    with contextlib.suppress(OSError):
        for line in process.stdout:
            lines.put(line)
    lines.put(b"")
