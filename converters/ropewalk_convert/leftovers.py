"""Temporary files that a killed process left behind: told from those still being written, and removed.

Who writes one locks it before the first byte, and the system gives the lock back with the process; an empty
one may be about to be locked, and is left alone for a minute. Where there are no such locks, one that nobody
has touched for a day counts as left behind.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # its absence is asked for below

_NAME_LENGTH = 40
_UNTOUCHED_SECONDS = 60.0  # longer than anyone takes from making a file to locking it
_ABANDONED_SECONDS = 24 * 3600.0


def temporary_name(target: Path) -> Path:
    """A name beside `target` for the file while it is written."""
    return target.with_name(f".{target.stem[:_NAME_LENGTH]}.{secrets.token_hex(4)}.part")


def hold(descriptor: int) -> None:
    """Mark an open file as being written, for as long as it is open; an empty one is then no longer young."""
    if fcntl is not None:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_size == 0:
                locked_before = time.time() - _UNTOUCHED_SECONDS - 1
                os.utime(descriptor, (locked_before, locked_before))


def remove_leftovers(target: Path) -> None:
    """Remove the temporary files of `target` whose writer is gone; what cannot be removed stays."""
    name = re.compile(rf"\.{re.escape(target.stem[:_NAME_LENGTH])}\.[0-9a-f]{{8}}\.part")
    with suppress(OSError):
        for path in target.parent.iterdir():
            if name.fullmatch(path.name) and path.is_file() and not path.is_symlink():
                with suppress(OSError):
                    _remove_if_left(path)


def is_held(path: Path) -> bool | None:
    """Whether a process that still runs has marked the file; None where there are no locks to tell it.

    Raises:
        OSError: it cannot be opened.
    """
    if fcntl is None:
        return None
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return None
    finally:
        os.close(descriptor)
    return False


def _remove_if_left(path: Path) -> None:
    found = path.stat()
    age = time.time() - found.st_mtime
    begun = found.st_size > 0 or age > _UNTOUCHED_SECONDS
    if begun and _is_left(path, age):
        path.unlink()


def _is_left(path: Path, age: float) -> bool:
    held = is_held(path)
    return age > _ABANDONED_SECONDS if held is None else not held
