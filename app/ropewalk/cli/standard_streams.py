"""stdin, stdout and stderr that a process may be started without, or that break while it runs."""

from __future__ import annotations

import os
import sys
from contextlib import suppress


def open_closed_streams() -> None:
    """Let a stream that is closed from the start (`>&-`) lead nowhere.

    Else Python has None for it, and the next file that is opened gets its number, with whatever a child
    process or the native library prints in it.
    """
    for number in range(3):  # in rising order: the lowest free number is the one that is given
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            mode = "w" if number else "r"
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", errors="replace", closefd=False))


def tell(sentence: str) -> None:
    """Put a sentence on stderr; where that is gone, as with a closed terminal, nobody is there to read it.

    It may quote a file of anybody's: what would not be seen but obeyed by a terminal becomes a question mark.
    """
    printable = "".join(character if character.isprintable() else "?" for character in sentence)
    with suppress(OSError):
        sys.stderr.write(f"ropewalk: {printable}\n")
        sys.stderr.flush()


def drop_unwritten() -> None:
    """Let what a broken stdout still holds go nowhere, so that the interpreter's last flush does not fail."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
