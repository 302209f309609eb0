"""A call of untrusted Python code, given up when it takes too long or too much memory. Portable.

The code runs in a thread of its own while the caller's watches. An exception is put into it from outside,
which takes effect between two byte codes: one native operation that takes for ever is not interrupted, so
whatever could be one has to be bounded where it is called.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

_LOOK_SECONDS = 0.01
_AGAIN_SECONDS = 0.5
"""Within which a thread should have ended once it was told to."""
_GIVE_UP_SECONDS = 10.0
_GUARD = threading.Lock()
"""One call at a time: what is measured is the memory of the whole process."""


class CallTooLong(Exception):
    """It was not done within its seconds."""


class CallTooLarge(Exception):
    """It took more than its bytes."""


class CallStopped(Exception):
    """It was given up because its caller wished so."""


class _GiveUp(SystemExit):
    """What is put into the thread: no `except Exception` takes it, and a thread may end of it silently."""


class _Outcome(Generic[T]):
    value: T
    error: BaseException | None = None
    done = False


def call_bounded(
    function: Callable[[], T],
    *,
    seconds: float,
    n_bytes: int,
    should_stop: Callable[[], bool] = lambda: False,
) -> T:
    """What `function` returns or raises.

    Args:
        function: pure Python without side effects; it is abandoned in its middle.
        seconds: the longest it may take.
        n_bytes: the most it may hold at once beyond what the process held before.
        should_stop: asked every few milliseconds.

    Raises:
        CallTooLong: it took longer.
        CallTooLarge: it took more memory.
        CallStopped: `should_stop` said so.
    """
    outcome: _Outcome[T] = _Outcome()

    def run() -> None:
        with contextlib.suppress(_GiveUp):
            try:
                outcome.value = function()
            except BaseException as error:  # handed to the caller
                outcome.error = error
            outcome.done = True

    with _GUARD, _traced_memory():
        before = tracemalloc.get_traced_memory()[0]
        thread = threading.Thread(target=run, name="bounded call", daemon=True)
        deadline = time.monotonic() + seconds
        thread.start()
        refusal: Exception | None = None
        try:
            while refusal is None and not _ended(thread, _LOOK_SECONDS):
                if tracemalloc.get_traced_memory()[0] - before > n_bytes:
                    refusal = CallTooLarge()
                elif time.monotonic() > deadline:
                    refusal = CallTooLong()
                elif should_stop():
                    refusal = CallStopped()
        finally:  # Ctrl-C here, too, leaves nothing running
            _end(thread, outcome)
    if refusal is not None:
        raise refusal
    if isinstance(outcome.error, MemoryError):
        raise CallTooLarge from outcome.error
    if outcome.error is not None:
        raise outcome.error
    return outcome.value


@contextlib.contextmanager
def _traced_memory() -> Iterator[None]:
    """Python's allocations are counted; left as found."""
    was_tracing = tracemalloc.is_tracing()
    if not was_tracing:
        tracemalloc.start()
    try:
        yield
    finally:
        if not was_tracing:
            tracemalloc.stop()


def _ended(thread: threading.Thread, seconds: float) -> bool:
    thread.join(seconds)
    return not thread.is_alive()


def _end(thread: threading.Thread, outcome: _Outcome[T]) -> None:
    """Ends a thread between two of its byte codes; one that hangs in native code is left alone."""
    until = time.monotonic() + _GIVE_UP_SECONDS
    while thread.is_alive() and not outcome.done and time.monotonic() < until:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_GiveUp)
        )
        thread.join(_AGAIN_SECONDS)
