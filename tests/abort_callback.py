"""The abort callback of a context, which says stop when a test wants it to."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

import llama_cpp

from library_logits import LoadedContext
from windowed_contexts import Row, try_decode


class AbortCallback:
    """Counts how often the library asks, which it does in every graph, several times."""

    def __init__(self, context: LoadedContext) -> None:
        """Says go on."""
        self._context = context
        self._asked = 0
        self._limit: int | None = None
        self._callback = llama_cpp.ggml_abort_callback(self._answer)  # for as long as the library may ask
        llama_cpp.llama_set_abort_callback(context.context, self._callback, ctypes.c_void_p(0))

    def count(self, work: Callable[[], object]) -> int:
        """How often the library asks meanwhile."""
        self._asked = 0
        work()
        return self._asked

    def decode(self, rows: Sequence[Row], stop_after: int) -> int:
        """What `llama_decode` returns when the answer is stop after so many questions."""
        self._asked, self._limit = 0, stop_after
        status = try_decode(self._context, rows)
        self._limit = None
        return status

    def _answer(self, _data: object) -> bool:
        self._asked += 1
        return self._limit is not None and self._asked > self._limit
