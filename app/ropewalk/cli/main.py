"""Entry of the `ropewalk` command. Light: what a verb needs is imported when the verb runs."""

from __future__ import annotations

import sys
from importlib import import_module

from ropewalk.cli.interruption import exit_code, interrupt_on_signals, leave_the_end_alone
from ropewalk.cli.standard_streams import open_closed_streams, tell


def main() -> int:
    """Run the command line of this process and return its exit code."""
    try:
        interrupt_on_signals()
        open_closed_streams()
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(
                    errors="replace"
                )  # a terminal that lacks a character shows a question mark
        code: int = import_module("ropewalk.cli.run").run(sys.argv[1:])
        leave_the_end_alone()
    except KeyboardInterrupt:  # before or after the part that reports it
        leave_the_end_alone()
        tell("Interrupted.")
        return exit_code()
    return code
