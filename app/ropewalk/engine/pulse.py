"""Signs of life of a model process: how often its work has moved on, told every second while it works.

What is read from a disk or written to one counts, too: a large file is mapped in one call of the system,
which may take many minutes on a slow disk.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]  # its absence is asked for below

_SECONDS = 1.0


class Pulse:
    """Counts what moves, and lets a thread of its own tell of it while a request is in work.

    The thread runs while native code does, which has the interpreter's lock released.
    """

    def __init__(self, tell: Callable[[int], None], seconds: float = _SECONDS) -> None:
        """Starts the thread, which waits for work.

        Args:
            tell: told a count that changes when something moves, from the thread.
            seconds: between two signs.
        """
        self._tell = tell
        self._seconds = seconds
        self._count = 0
        self._at_work = threading.Event()
        self._closed = False
        threading.Thread(target=self._run, name="pulse", daemon=True).start()

    def beat(self) -> None:
        """Something has moved; from any thread, and where two do at once, one may not be counted."""
        self._count += 1

    def begin(self) -> None:
        """A request is in work."""
        self._at_work.set()

    def end(self) -> None:
        """None is."""
        self._at_work.clear()

    def close(self) -> None:
        """Ends the thread."""
        self._closed = True
        self._at_work.set()

    def _run(self) -> None:
        pause = threading.Event()
        while self._at_work.wait() and not self._closed:
            pause.wait(self._seconds)
            if self._at_work.is_set() and not self._closed:
                self._tell(self._count + moved_blocks())


def moved_blocks() -> int:
    """Blocks of 512 bytes that this process has had read from disks and written to them so far.

    0 where the system does not count them.
    """
    if resource is None:
        return 0
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_inblock + usage.ru_oublock
