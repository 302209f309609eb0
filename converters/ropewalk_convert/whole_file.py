"""Files that appear under their name only when they are whole.

What replaces another file is on the disk before that goes, so that one of the two outlasts even a power
failure. A new file is handed to the system, as `cp` does it, and its source is still there should the machine
fail in the next seconds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ropewalk_convert.errors import TargetError
from ropewalk_convert.leftovers import hold, remove_leftovers, temporary_name
from ropewalk_convert.put_aside import put_aside
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
            os.close(os.dup(self._file.fileno()))  # network file systems tell of a full disk at a close

    def sync(self) -> None:
        """Have everything written on the disk, whatever happens to the machine; raises as `write` does."""
        with explained(self._target, self._needed):
            self._file.flush()
            os.fsync(self._file.fileno())

    def release(self) -> None:
        """Let the file be renamed where open ones cannot be; elsewhere it stays open, and so locked."""
        if os.name == "nt":
            self._file.close()


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
    with _temporary(target, needed) as file:
        yield file
        replacing = force and target.exists()
        _settle(file, durable=replacing)
        with explained(target, needed):
            if force:
                file.path.replace(target)
            else:
                _publish_new(file.path, target)
        if replacing:
            _sync_folder(target.parent)


@contextmanager
def written_set(targets: Sequence[Path], *, force: bool, needed: int) -> Iterator[tuple[WholeFile, ...]]:
    """New files that belong together, each as `written_whole` makes one, in one folder.

    They get their names when all of them are whole, the first one last: it is the one that programs begin
    with, so that whatever happens, it stands there only among its own. Files that they replace are put aside
    before, the first one first, and come back where something goes wrong (see `put_aside`).

    Args:
        targets: the names they get at the end, all different.
        force: whether they may replace files of those names.
        needed: bytes they will have together, for the message when the disk is full.

    Raises:
        TargetError: a file cannot be made there, or one of its name has appeared without `force`.
        SpaceError: the disk filled up.
    """
    if len(targets) == 1:
        with written_whole(targets[0], force=force, needed=needed) as file:
            yield (file,)
        return
    with ExitStack() as temporaries:
        files = tuple(temporaries.enter_context(_temporary(target, needed)) for target in targets)
        yield files
        replacing = force and any(target.exists() for target in targets)
        for file in files:
            _settle(file, durable=replacing)
        _publish_all({file.path: target for file, target in zip(files, targets, strict=True)}, force, needed)
        if replacing:
            _sync_folder(targets[0].parent)


def _settle(file: WholeFile, *, durable: bool) -> None:
    """End the writing of a file that is about to get its name."""
    file.flush()
    if durable:
        file.sync()
    file.release()


@contextmanager
def _temporary(target: Path, needed: int) -> Iterator[WholeFile]:
    """A locked file beside `target` that is removed at the end, if it still has its temporary name."""
    remove_leftovers(target)
    temporary = temporary_name(target)
    try:
        with explained(target, needed):
            file = temporary.open("xb")
        try:
            hold(file.fileno())
            yield WholeFile(file, temporary, target, needed)
        finally:
            with explained(target, needed):
                file.close()
    finally:
        _remove(temporary)


def _publish_all(names: Mapping[Path, Path], force: bool, needed: int) -> None:
    """Give files their names, the first last; where that fails, everything is as it was before.

    Args:
        names: temporary names, and the names they get.
        force: put aside what has those names.
        needed: see `written_set`.
    """
    targets = list(names.values())
    with explained(targets[0], needed), put_aside(targets if force else ()), ExitStack() as undoing:
        for temporary, target in reversed(list(names.items())):
            undoing.callback(_take_back, temporary.stat().st_ino, target)
            with explained(target, needed):
                _publish_new(temporary, target)
        undoing.pop_all()


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _take_back(inode: int, target: Path) -> None:
    """Remove a file of ours; not one that somebody else put there."""
    with suppress(OSError):
        if target.stat().st_ino == inode:
            target.unlink()


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
        else:
            _remove(temporary)  # before an interrupt can come between
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
