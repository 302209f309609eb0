"""Files that appear under their name only when they are whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ropewalk_convert.errors import TargetError
from ropewalk_convert.leftovers import hold, remove_leftovers, temporary_name
from ropewalk_convert.target import explained


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

    def write(self, data: bytes | memoryview) -> None:
        """Write the next bytes.

        Raises:
            SpaceError: the disk is full.
            TargetError: they cannot be written for another reason.
        """
        with explained(self._target, self._needed):
            self._file.write(data)

    def flush(self) -> None:
        """Hand everything written to the system; raises as `write` does."""
        with explained(self._target, self._needed):
            self._file.flush()


@contextmanager
def written_whole(target: Path, *, force: bool, needed: int) -> Iterator[WholeFile]:
    """A new file beside `target`, renamed to it when the block ends well and removed when it does not.

    What a killed process left behind of an earlier attempt is removed first.

    Args:
        target: the name it gets at the end; see `target.regular_file` for links.
        force: whether it may replace a file of that name.
        needed: bytes it will have, for the message when the disk is full.

    Raises:
        TargetError: the file cannot be made there, or one of its name has appeared without `force`.
        SpaceError: the disk filled up.
    """
    remove_leftovers(target)
    temporary = temporary_name(target)
    try:
        with explained(target, needed):
            file = temporary.open("xb")
        try:
            hold(file.fileno())
            yield WholeFile(file, temporary, target, needed)
            with explained(target, needed):
                file.flush()
                os.fsync(file.fileno())
        finally:
            with explained(target, needed):
                file.close()
        with explained(target, needed):
            if force:
                temporary.replace(target)
            else:
                _publish_new(temporary, target)
        _sync_folder(target.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _publish_new(temporary: Path, target: Path) -> None:
    """Give the file its name, which must be free: asked and taken in one step, so that nobody comes between.

    Raises:
        TargetError: the name is taken.
        OSError: it cannot be given.
    """
    try:
        try:
            os.link(temporary, target)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            _replace_own(temporary, target)
    except FileExistsError:
        raise TargetError(
            f"{target} has appeared meanwhile; give another name, or --force to replace it"
        ) from None


def _replace_own(temporary: Path, target: Path) -> None:
    """Take the name with an empty file, then put the whole one in its place."""
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    try:
        temporary.replace(target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    """Make the new name last through a power failure, where the system lets folders be synced."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
