"""One run at a time: a file lock that dies with its holder."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def exclusive(path: Path, doing: str) -> Iterator[int]:
    """Hold the lock at `path`, after waiting for whoever has it.

    Args:
        path: the lock file; made, with its folders, where missing, and never removed.
        doing: what the holder does, for the sentence that a waiting run prints.

    Yields:
        The lock's file descriptor: a child that inherits it keeps the lock if this process is killed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Another run is {doing}; waiting for it to end.", file=sys.stderr)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)
