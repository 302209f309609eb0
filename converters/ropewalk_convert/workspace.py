"""A temporary file beside the target, for what another program writes on the way to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ropewalk_convert.leftovers import hold, remove_leftovers, temporary_name
from ropewalk_convert.target import explained


@contextmanager
def temporary_beside(target: Path) -> Iterator[Path]:
    """An empty file on the target's disk, marked as being written, removed when the block ends.

    It is marked until then, so that no other run takes it for a leftover; where this process is killed, the
    next run for the same target removes it. It may be removed within the block.

    Args:
        target: the file that is being made; its folder exists.

    Raises:
        TargetError: the file cannot be made there.
        SpaceError: the disk is full.
    """
    remove_leftovers(target)
    path = temporary_name(target)
    try:
        with explained(target, 0):
            file = path.open("xb")
        with file:
            hold(file.fileno())
            yield path
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)
