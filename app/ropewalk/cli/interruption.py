"""Ctrl-C and what ends a command from outside: the first signal interrupts, tidying up is left alone."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time
from types import FrameType
from typing import NoReturn

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # the last comes when the terminal is closed; Windows has none
_INTERRUPTED = 130
_UNDISTURBED_SECONDS = 10.0  # tidying up takes tenths of one; what takes longer than this hangs


class _First:
    """The signal that interrupted this process.

    Attributes:
        number: of the signal; 0 for none yet.
        since: when nothing more was to interrupt, by the monotonic clock; None before that.
    """

    number: int = 0
    since: float | None = None


def interrupt_on_signals() -> None:
    """Have the signals that end a process raise KeyboardInterrupt, but for those that are ignored (`nohup`).

    Only the first does: whoever presses Ctrl-C several times gets what one press gets, everything tidied up.
    Where that does not come to an end, a later one ends the process at once.
    """
    for number in _numbers():
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _interrupt)


def leave_the_end_alone() -> None:
    """Have nothing interrupt any more: the work is done, and the interpreter is about to end."""
    if _First.since is None:
        _First.since = time.monotonic()
    atexit.register(_ignore)
    # Python ends by SIGINT, whatever the exit code, where an interruption came out of an `exec` of a text, as
    # dataclasses are made with, though it was handled; another `exec` has it forget that
    exec("")


def exit_code() -> int:
    """The exit code of an interrupted command: 128 and the signal's number, 130 for Ctrl-C."""
    return 128 + _First.number if _First.number else _INTERRUPTED


def _interrupt(number: int, _: FrameType | None) -> None:
    if _First.since is None:
        _First.number, _First.since = number, time.monotonic()
        asyncio = sys.modules.get("asyncio")
        loop = None if asyncio is None else asyncio._get_running_loop()
        if loop is None:
            _raise()
        loop.call_soon_threadsafe(_raise)  # not within a task, which would report it as its own failure
    elif time.monotonic() - _First.since > _UNDISTURBED_SECONDS:
        os._exit(128 + number)


def _raise() -> NoReturn:
    raise KeyboardInterrupt


def _ignore() -> None:
    """For the interpreter's last steps, which take Python's handlers away."""
    for number in _numbers():
        if signal.getsignal(number) is _interrupt:
            signal.signal(number, signal.SIG_IGN)


def _numbers() -> list[signal.Signals]:
    return [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
