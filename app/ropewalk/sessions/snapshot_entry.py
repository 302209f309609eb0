"""A snapshot's folder: the state, the tokens and the manifest, which is written last.

It is made under a temporary name, which a lock marks as being worked on, and gets its own when it is whole;
it is removed in the same two steps, the other way round. So under its own name a snapshot is whole or
absent, whenever a process is killed; what such a process leaves behind, the next one removes.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ropewalk.sessions.snapshot_manifest import DamagedSnapshot, Manifest, Tokens

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # its absence is asked for below

STATE, TOKENS, MANIFEST = "state", "tokens", "manifest.json"
_ID = re.compile(r"[0-9a-f]{16}")
_TEMPORARY = re.compile(r"\.[0-9a-f]{8}\.part")
_UNTOUCHED_SECONDS = 60.0  # longer than anyone takes from making a folder to locking it
_ABANDONED_SECONDS = 24 * 3600.0  # where there are no locks


@dataclass(frozen=True)
class Entry:
    """A snapshot that is there.

    Attributes:
        folder: its folder.
        manifest: what it says of itself.
        last_used: seconds since 1970: the time of its manifest's file, which says nothing of its content.
    """

    folder: Path
    manifest: Manifest
    last_used: float

    @property
    def id(self) -> str:
        """Its name."""
        return self.folder.name

    @property
    def n_bytes(self) -> int:
        """What it takes."""
        return self.manifest.n_bytes

    @property
    def state(self) -> Path:
        """The file with keys and values."""
        return self.folder / STATE

    def tokens(self) -> Tokens:
        """The tokens of its text.

        Raises:
            DamagedSnapshot: they are not what was written.
            OSError: they cannot be read.
        """
        return self.manifest.tokens((self.folder / TOKENS).read_bytes())

    def touch(self) -> None:
        """Count as used now."""
        with suppress(OSError):
            os.utime(self.folder / MANIFEST)


def read_entry(folder: Path) -> Entry:
    """The snapshot in a folder.

    Raises:
        DamagedSnapshot: there is none that is what was written there.
        FileNotFoundError: the folder is gone.
        OSError: it cannot be read.
    """
    path = folder / MANIFEST
    try:
        manifest = Manifest.decoded(path.read_bytes())
        last_used = path.stat().st_mtime
        sizes = [(folder / name).stat().st_size for name in (STATE, TOKENS)]
    except FileNotFoundError as error:
        if folder.exists():
            raise DamagedSnapshot(f"its file {Path(error.filename).name} is missing") from error
        raise
    if manifest.id != folder.name:
        raise DamagedSnapshot("it is another snapshot's")
    if sizes[0] != manifest.state_bytes or sum(sizes) != manifest.n_bytes:
        raise DamagedSnapshot("its files are not as long as what was written")
    return Entry(folder, manifest, last_used)


def entry_folders(folder: Path) -> list[Path]:
    """The folders of all snapshots, whole or damaged; none where there is no such folder.

    Raises:
        OSError: it cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if _ID.fullmatch(path.name))
    except FileNotFoundError:
        return []


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A folder of a temporary name, locked, and removed at the end where it still has that name.

    Raises:
        OSError: it cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = _temporary_name(folder)
    path.mkdir(mode=0o700)  # a text that was read can be told from its keys and values
    descriptor = _hold(path)
    try:
        yield path
    finally:
        if descriptor is not None:
            os.close(descriptor)
        shutil.rmtree(path, ignore_errors=True)


def publish(staging: Path, manifest: Manifest) -> Path:
    """Write the manifest and give a folder its own name.

    Where a snapshot of that name is there already, it stays: it is of the same text and key.

    Raises:
        OSError: the disk is full, for one.
    """
    _write_synced(staging / MANIFEST, manifest.encoded())
    _sync_folder(staging)
    target = staging.parent / manifest.id
    try:
        staging.rename(target)
    except OSError:
        if not target.is_dir():
            raise
    _sync_folder(target.parent)
    return target


def write_tokens(staging: Path, data: bytes) -> None:
    """Write the tokens' file.

    Raises:
        OSError: the disk is full, for one.
    """
    _write_synced(staging / TOKENS, data)


def remove(entry_folder: Path) -> bool:
    """Remove a snapshot; False where it is there still. Whoever has its files open goes on reading them."""
    grave = _temporary_name(entry_folder.parent)
    try:
        entry_folder.rename(grave)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    shutil.rmtree(grave, ignore_errors=True)
    return True


def remove_leftovers(folder: Path) -> int:
    """Remove what processes that are gone have left behind, and return how many folders that were."""
    removed = 0
    with suppress(OSError):
        for path in folder.iterdir():
            if _TEMPORARY.fullmatch(path.name) and _is_left(path):
                shutil.rmtree(path, ignore_errors=True)
                removed += 1
    return removed


def _temporary_name(folder: Path) -> Path:
    return folder / f".{secrets.token_hex(4)}.part"


def _hold(path: Path) -> int | None:
    """Lock a folder for as long as the descriptor is open; None where there are no such locks."""
    if fcntl is None:
        return None
    descriptor = os.open(path, os.O_RDONLY)
    with suppress(OSError):  # a file system without locks
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def _is_left(path: Path) -> bool:
    """Whether nobody works on a temporary folder any more; False where that cannot be told."""
    try:
        age = time.time() - path.stat().st_mtime
        young = age < _UNTOUCHED_SECONDS and not any(path.iterdir())
        if young:
            return False
        held = _is_held(path)
        return age > _ABANDONED_SECONDS if held is None else not held
    except OSError:
        return False


def _is_held(path: Path) -> bool | None:
    """Whether a process that still runs works on it; None where there are no locks to tell it."""
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


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make names last through a power failure, where the system lets folders be synced."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
