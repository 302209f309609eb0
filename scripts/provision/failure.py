"""How set-up fails: one sentence for the person, an exit code, no traceback."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType

FAILED = 1
USAGE = 2
INTERRUPTED = 130


class ProvisionError(Exception):
    """A step that cannot be done; the message is one sentence that names the thing and the remedy."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        """Remember the sentence and the exit code it ends the program with."""
        super().__init__(message)
        self.exit_code = exit_code


def run_main(main: Callable[[], int]) -> int:
    """Run a command's main and turn its failures into a sentence on stderr and an exit code.

    A termination signal is treated as an interruption, so that children and temporary files are
    cleaned up on the same path.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return main()
    except ProvisionError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\nInterrupted; run the same command again and it goes on from here.", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"{where}{error.strerror or error}; set that right and run the command again.", file=sys.stderr)
        return FAILED


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
