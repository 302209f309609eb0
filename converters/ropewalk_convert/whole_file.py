"""Files that appear under their name only when they are whole."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ropewalk_convert.errors import SpaceError, TargetError

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}


def check_target(target: Path, *, source: Path, force: bool) -> None:
    """Check that a file may be made at `target` from `source`, before any work is done.

    Raises:
        TargetError: it is the source, exists without `force`, is a folder, or its folder does not exist.
    """
    with _explained(target, 0):
        _check_target(target, source, force)


def _check_target(target: Path, source: Path, force: bool) -> None:
    if target.exists() and target.samefile(source):
        raise TargetError(f"{target} is the source itself; give the new file another name")
    if target.is_dir():
        raise TargetError(f"{target} is a folder; name the file to write in it")
    if not target.parent.is_dir():
        raise TargetError(
            f"{target} cannot be written: the folder {target.parent} does not exist; make it first"
        )
    if target.exists() and not force:
        raise TargetError(f"{target} exists already; give another name, or --force to replace it")


def check_space(target: Path, needed: int) -> None:
    """Check that `needed` bytes are free where `target` is to be.

    Raises:
        SpaceError: they are not.
    """
    free = shutil.disk_usage(target.parent).free
    if free < needed:
        raise SpaceError(
            f"{target} needs {size_text(needed)} and its disk has {size_text(free)} free; "
            "make room, or write to another disk"
        )


class WholeFile:
    """A file being written under a temporary name; its errors are those of the target.

    Attributes:
        path: the temporary name.
    """

    def __init__(self, file: BinaryIO, path: Path, target: Path, needed: int) -> None:
        """Wrap an open file; see `written_whole`."""
        self.path = path
        self._file = file
        self._target = target
        self._needed = needed

    def write(self, data: bytes) -> None:
        """Write the next bytes.

        Raises:
            SpaceError: the disk is full.
            TargetError: they cannot be written for another reason.
        """
        with _explained(self._target, self._needed):
            self._file.write(data)

    def flush(self) -> None:
        """Hand everything written to the system; raises as `write` does."""
        with _explained(self._target, self._needed):
            self._file.flush()


@contextmanager
def written_whole(target: Path, *, force: bool, needed: int) -> Iterator[WholeFile]:
    """A new file beside `target`, renamed to it when the block ends well and removed when it does not.

    Args:
        target: the name it gets at the end.
        force: whether it may replace a file of that name.
        needed: bytes it will have, for the message when the disk is full.

    Raises:
        TargetError: the file cannot be made there, or one of its name has appeared without `force`.
        SpaceError: the disk filled up.
    """
    temporary = target.with_name(f".{target.stem[:40]}.{secrets.token_hex(4)}.part")
    try:
        with _explained(target, needed):
            file = temporary.open("xb")
        try:
            yield WholeFile(file, temporary, target, needed)
            with _explained(target, needed):
                file.flush()
                os.fsync(file.fileno())
        finally:
            with _explained(target, needed):
                file.close()
        if not force and target.exists():
            raise TargetError(f"{target} has appeared meanwhile; give another name, or --force to replace it")
        with _explained(target, needed):
            temporary.replace(target)
        _sync_folder(target.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def size_text(n_bytes: int) -> str:
    """A size for people, in decimal units."""
    size = float(n_bytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


@contextmanager
def _explained(target: Path, needed: int) -> Iterator[None]:
    """Turn the system's errors into ours."""
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


def _sync_folder(folder: Path) -> None:
    """Make the new name last through a power failure, where the system lets folders be synced."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
