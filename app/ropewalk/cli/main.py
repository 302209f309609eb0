"""Entry of the `ropewalk` command. Light: what a verb needs is imported when the verb runs."""

from __future__ import annotations

import signal
import sys
from importlib import import_module
from types import FrameType

from ropewalk.cli.standard_streams import open_closed_streams, tell

_INTERRUPTED = 130
_ENDING_SIGNALS = ("SIGTERM", "SIGHUP")  # the second comes when the terminal is closed; Windows has none


def main() -> int:
    """Run the command line of this process and return its exit code."""
    try:
        open_closed_streams()
        _tidy_up_when_killed()
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(
                    errors="replace"
                )  # a terminal that lacks a character shows a question mark
        exit_code: int = import_module("ropewalk.cli.run").run(sys.argv[1:])
    except KeyboardInterrupt:  # before or after the part that reports it
        tell("Interrupted.")
        return _INTERRUPTED
    return exit_code


def _tidy_up_when_killed() -> None:
    """Make a killed command tidy up like an interrupted one, but for signals that are ignored (`nohup`)."""
    for name in _ENDING_SIGNALS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _interrupt)


def _interrupt(signal_number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
