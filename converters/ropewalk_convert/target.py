"""Where a new file may be made: what stands under its name decides, before any work is done."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ropewalk_convert.errors import SpaceError, TargetError
from ropewalk_convert.leftovers import remove_leftovers

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}


def check_target(target: Path, *, source: Path, force: bool) -> Path:
    """Check that a file may be made at `target` from `source`, before any work is done.

    Returns:
        The file that is made: `target`, or where it points to if it is a link.

    Raises:
        TargetError: it is the source, exists without `force`, is no regular file, is a link that leads
            nowhere, or its folder does not exist.
    """
    with explained(target, 0):
        file = regular_file(target)
        if file.exists() and file.samefile(source):
            raise TargetError(f"{target} is the source itself; give the new file another name")
        if not file.parent.is_dir():
            raise TargetError(
                f"{target} cannot be written: the folder {file.parent} does not exist; make it first"
            )
        if file.exists() and not force:
            raise TargetError(f"{target} exists already; give another name, or --force to replace it")
    return file


def regular_file(target: Path) -> Path:
    """The regular file that writing to `target` makes or replaces.

    A link is followed, as a shell's `>` does: it stays, and the file that it names is replaced.

    Raises:
        TargetError: something else stands there, such as a folder, a device or a pipe, or a link that
            leads nowhere.
        OSError: it cannot be looked at.
    """
    try:
        mode = target.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if os.path.lexists(target):
            raise TargetError(f"{target} is a link that leads nowhere; give another name") from None
        return target
    if stat.S_ISDIR(mode):
        raise TargetError(f"{target} is a folder; name the file to write in it")
    if not stat.S_ISREG(mode):
        raise TargetError(f"{target} is no regular file; give another name")
    return target.resolve() if target.is_symlink() else target


def check_space(target: Path, needed: int) -> None:
    """Check that `needed` bytes are free where `target` is to be.

    What a killed process left of an earlier attempt at it takes no room: it is removed first.

    Raises:
        SpaceError: they are not.
    """
    remove_leftovers(target)
    free = shutil.disk_usage(target.parent).free
    if free < needed:
        raise SpaceError(
            f"{target} needs {size_text(needed)} and its disk has {size_text(free)} free; "
            "make room, or write to another disk"
        )


def size_text(n_bytes: int) -> str:
    """A size for people, in decimal units."""
    size = float(n_bytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


@contextmanager
def explained(target: Path, needed: int) -> Iterator[None]:
    """Turn the system's errors in the block into ours.

    Args:
        target: the file, for the message.
        needed: bytes it will have, for the message when the disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise SpaceError(
                f"the disk filled up while {target} was written, which needs {size_text(needed)}; "
                "make room, or write to another disk"
            ) from error
        why = error.strerror or error
        raise TargetError(
            f"{target} cannot be written ({why}); choose a folder that can take the file"
        ) from error
