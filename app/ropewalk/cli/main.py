"""Entry of the `ropewalk` command. Light: what a verb needs is imported when the verb runs."""

from __future__ import annotations

import signal
import sys
from importlib import import_module
from types import FrameType

_INTERRUPTED = 130


def main() -> int:
    """Run the command line of this process and return its exit code."""
    try:
        signal.signal(signal.SIGTERM, _interrupt)
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(
                    errors="replace"
                )  # a terminal that lacks a character shows a question mark
        exit_code: int = import_module("ropewalk.cli.run").run(sys.argv[1:])
    except KeyboardInterrupt:  # before or after the part that reports it
        sys.stderr.write("ropewalk: Interrupted.\n")
        return _INTERRUPTED
    return exit_code


def _interrupt(signal_number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt  # so that a killed command tidies up like an interrupted one
