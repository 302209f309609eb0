"""What llama.cpp and ggml log, kept in a bounded buffer instead of being printed.

The last lines serve error messages: the native functions return null, and the log says why.
"""

from __future__ import annotations

import ctypes
import re
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from llama_cpp import llama_cpp as capi

_CAPACITY = 400
_LEVEL_ERROR, _LEVEL_CONTINUES = 4, 5  # ggml.h

_FUNCTION_PREFIX = re.compile(r"^[\w~:]+(\(\))?: ")


class NativeLog:
    """The log's last lines, with their levels.

    Attributes:
        echo_errors: whether errors also go to stderr, for whoever watches the process: they may be its last.
    """

    def __init__(self) -> None:
        """An empty log."""
        self.echo_errors = False
        self._lines: deque[tuple[int, str]] = deque(maxlen=_CAPACITY)
        self._collections: list[tuple[re.Pattern[str], list[str]]] = []
        self._partial = ""
        self._level = 0

    def write(self, level: int, text: str) -> None:
        """Takes a piece of log as ggml hands it out: part of a line, a line or several."""
        if level != _LEVEL_CONTINUES:
            self._level = level
        *whole, self._partial = (self._partial + text).split("\n")
        for line in whole:
            self._lines.append((self._level, line))
            for wanted, found in self._collections:
                if wanted.search(line):
                    found.append(line)
            if self.echo_errors and self._level == _LEVEL_ERROR:
                print(line, file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Forgets what was logged."""
        self._lines.clear()
        self._partial = ""

    @contextmanager
    def collecting(self, wanted: re.Pattern[str]) -> Iterator[list[str]]:
        """A list of all lines in which a pattern is found while the block runs, however many others come."""
        collection = (wanted, list[str]())
        self._collections.append(collection)
        try:
            yield collection[1]
        finally:
            self._collections = [other for other in self._collections if other is not collection]

    def lines(self) -> list[str]:
        """The last lines, oldest first."""
        return [line for _, line in self._lines]

    def errors(self) -> list[str]:
        """The last lines of level error, oldest first, without the names of C functions before them."""
        return [
            _FUNCTION_PREFIX.sub("", line).strip() for level, line in self._lines if level == _LEVEL_ERROR
        ]


LOG = NativeLog()
"""The process's log; native logging is global."""


def _write(level: int, text: bytes, _user_data: object) -> None:
    LOG.write(level, text.decode("utf-8", "replace"))


_CALLBACK = capi.llama_log_callback(_write)  # for as long as the library may call it


def install() -> None:
    """Routes native logging into `LOG` (llama_cpp's own callback would print it)."""
    capi.llama_log_set(_CALLBACK, ctypes.c_void_p(0))


@contextmanager
def fresh() -> Iterator[NativeLog]:
    """The log of what happens inside, with nothing older in it."""
    install()
    LOG.clear()
    yield LOG
