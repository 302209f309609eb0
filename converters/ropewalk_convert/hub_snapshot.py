"""A checkpoint from the hub, in huggingface-hub's own cache, where every other program finds it too.

huggingface-hub's downloads begin a file anew in every process since its release 2. So contents are brought
here, going on from what an earlier run left, to where that cache keeps them (`blobs`). The rest, the note of
what the revision is and the links under `snapshots`, is left to huggingface-hub, which finds it all there.
"""

from __future__ import annotations

import errno
import glob
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants, hf_hub_download, hf_hub_url, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import WeakFileLock

from ropewalk_convert.errors import SpaceError
from ropewalk_convert.hub_checkpoint import (
    CONFIG,
    INDEX,
    NoCheckpointError,
    check_has_checkpoint,
    choose_weights,
    describing_files,
)
from ropewalk_convert.hub_download import HubFile, download_file
from ropewalk_convert.hub_errors import HubError, explained, not_a_hub
from ropewalk_convert.hub_listing import RepositoryFiles, list_files
from ropewalk_convert.target import size_text

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
_SECONDS_FOR_A_LOCK = 0.2
_LIBRARY = "ropewalk"


@dataclass(frozen=True)
class FetchedCheckpoint:
    """A checkpoint in huggingface-hub's cache.

    Attributes:
        folder: its files, as far as conversion needs them.
        repo: the repository, OWNER/NAME.
        commit: the commit that the files are of.
    """

    folder: Path
    repo: str
    commit: str


def fetch_checkpoint(
    repo: str,
    revision: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    before_weights: Callable[[Path], None] | None = None,
) -> FetchedCheckpoint:
    """Fetch what conversion needs of a checkpoint and the cache has not, going on from an earlier run.

    That is the weights in safetensors form, the configuration, the tokenizer, the model card and the licence.
    With `HF_HUB_OFFLINE` set nothing is asked for, and what the cache has is taken.

    Args:
        repo: the repository, OWNER/NAME.
        revision: a branch, tag or commit; the main branch where None.
        progress: called with bytes there and bytes in all; may raise to stop.
        before_weights: called with the folder when everything but the weights is there, before these are
            fetched; raises what makes it pointless.

    Raises:
        HubError: it cannot be had; a `NoCheckpointError`, which is a SourceError too, where the repository
            has nothing that can be converted.
        SpaceError: the cache's disk has too little room.
    """
    if constants.HF_HUB_OFFLINE:
        return _cached(repo, revision, before_weights)
    listing = list_files(repo, revision)
    check_has_checkpoint(repo, listing.names)
    snapshot = _Snapshot(listing)
    index = listing.file(INDEX) if INDEX in listing.names else None
    with snapshot.disk_errors_explained():
        for file in (listing.file(CONFIG), *([] if index is None else [index])):
            snapshot.bring(file)
        snapshot.link([listing.file(CONFIG)], revision or constants.DEFAULT_REVISION)
        content = None if index is None else snapshot.content(index)
        weights = [listing.file(name) for name in choose_weights(repo, listing.names, content)]
        describing = [listing.file(name) for name in describing_files(listing.names)]
        snapshot.check_space(describing + weights)
        counted = _Counted(snapshot, describing + weights, progress)
        counted.bring(describing)
        snapshot.link(describing)
    if before_weights is not None:
        before_weights(snapshot.folder)
    with snapshot.disk_errors_explained():
        counted.bring(weights)
        snapshot.link(weights)
    with explained(repo, revision):  # huggingface-hub itself has to find it
        patterns = [glob.escape(file.path) for file in describing + weights]
        folder = snapshot_download(
            repo, revision=listing.commit, allow_patterns=patterns, local_files_only=True
        )
    return FetchedCheckpoint(Path(folder), repo, listing.commit)


class _Snapshot:
    """The files of one commit of a repository in huggingface-hub's cache."""

    def __init__(self, listing: RepositoryFiles) -> None:
        name = repo_folder_name(repo_id=listing.repo, repo_type="model")
        self._cache = Path(constants.HF_HUB_CACHE).expanduser()
        self._listing = listing
        self._blobs = self._cache / name / "blobs"
        self._locks = self._cache / ".locks" / name
        self.folder = self._cache / name / "snapshots" / listing.commit

    def is_there(self, file: HubFile) -> bool:
        """Whether a file is there, of the size that was told."""
        paths = (self.folder / file.path, self._blob(file))
        return any(path.is_file() and path.stat().st_size == file.size for path in paths)

    def content(self, file: HubFile) -> bytes:
        """What is in a file that is there."""
        linked = self.folder / file.path
        return (linked if linked.is_file() else self._blob(file)).read_bytes()

    def missing_bytes(self, file: HubFile) -> int:
        """How much of a file is still to be fetched."""
        if self.is_there(file):
            return 0
        part = self._part(file)
        return max(file.size - (part.stat().st_size if part.is_file() else 0), 0)

    def check_space(self, files: Iterable[HubFile]) -> None:
        """Check that what is missing of files fits on the cache's disk.

        Raises:
            SpaceError: it does not.
        """
        needed = sum(self.missing_bytes(file) for file in files)
        free = shutil.disk_usage(self._blobs).free
        if free < needed:
            raise SpaceError(
                f"{self._listing.repo} needs {size_text(needed)} more and the disk of {self._cache} has "
                f"{size_text(free)} free; make room, or let HF_HOME name a folder on another disk, and run "
                "the same command again"
            )

    def bring(self, file: HubFile, progress: Callable[[int], None] = lambda n_bytes: None) -> None:
        """Fetch a file's content if it is missing.

        Args:
            file: the file.
            progress: called with the bytes there are of it.

        Raises:
            HubError: it cannot be had.
        """
        self._blobs.mkdir(parents=True, exist_ok=True)
        if self.is_there(file):
            return
        self._forget(file)  # of another size: damaged
        url = hf_hub_url(self._listing.repo, file.path, revision=self._listing.commit)
        with explained(self._listing.repo), self._locked(file):
            if not self.is_there(file):
                download_file(url, self._blob(file), self._part(file), file, progress)

    def link(self, files: Iterable[HubFile], revision: str | None = None) -> None:
        """Let huggingface-hub give files their names in the snapshot.

        Args:
            files: files that are there.
            revision: a name of the commit, for huggingface-hub to note.

        Raises:
            HubError: it found others than were listed.
        """
        repo, commit = self._listing.repo, self._listing.commit
        for file in files:
            with explained(repo, revision):
                path = hf_hub_download(repo, file.path, revision=revision or commit, library_name=_LIBRARY)
            if Path(path).parent.resolve() != (self.folder / file.path).parent.resolve():
                raise HubError(f"{repo} has changed in this very moment; run the same command again")
            size = Path(path).stat().st_size
            if size != file.size:
                self._forget(file)
                raise HubError(
                    f"{file.path} should have {file.size:,} bytes and came with {size:,}; it was not kept; "
                    "run the same command again, and tell the repository's owner if it stays so"
                )

    @contextmanager
    def disk_errors_explained(self) -> Iterator[None]:
        """Turn the system's errors with the cache in the block into ours."""
        try:
            yield
        except OSError as error:
            if error.errno in _DISK_FULL:
                raise SpaceError(
                    f"the disk of {self._cache} filled up while {self._listing.repo} was fetched; make room, "
                    "and run the same command again, it goes on from there"
                ) from error
            raise HubError(
                f"{error.filename or self._cache} cannot be written ({error.strerror or error}); check whose "
                "folder it is, or let HF_HOME name another"
            ) from error

    def _blob(self, file: HubFile) -> Path:
        """Where the cache keeps a content: under the checksum by which the hub calls it."""
        name = file.sha256 or file.git_id
        if name is None:
            raise HubError(not_a_hub())
        return self._blobs / name

    def _part(self, file: HubFile) -> Path:
        """Where a content's beginning is kept: a name that huggingface-hub's tools know, and clean away."""
        blob = self._blob(file)
        return blob.with_name(blob.name + ".incomplete")

    def _forget(self, file: HubFile) -> None:
        for path in (self.folder / file.path, self._blob(file)):
            if os.path.lexists(path):
                path.unlink()

    @contextmanager
    def _locked(self, file: HubFile) -> Iterator[None]:
        """Keep other programs that use the cache from fetching the same content meanwhile."""
        lock = self._locks / f"{self._blob(file).name}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            try:
                held.enter_context(WeakFileLock(lock, timeout=_SECONDS_FOR_A_LOCK))
            except TimeoutError as error:
                raise HubError(
                    f"{file.path} is being fetched by another program; wait for that to end, and run the "
                    "same command again"
                ) from error
            yield


class _Counted:
    """Brings files, and reports bytes of all of them together."""

    def __init__(
        self, snapshot: _Snapshot, files: list[HubFile], progress: Callable[[int, int], None] | None
    ) -> None:
        self._snapshot, self._progress = snapshot, progress
        self._total = sum(file.size for file in files)
        self._done = sum(file.size for file in files if snapshot.is_there(file))
        self._report(0)

    def bring(self, files: Iterable[HubFile]) -> None:
        """Fetch what is missing of some of the files."""
        for file in files:
            if not self._snapshot.is_there(file):
                self._snapshot.bring(file, self._report)
                self._done += file.size

    def _report(self, of_this_file: int) -> None:
        if self._progress is not None:
            self._progress(self._done + of_this_file, self._total)


def _cached(
    repo: str, revision: str | None, before_weights: Callable[[Path], None] | None
) -> FetchedCheckpoint:
    """What the cache has of a checkpoint, without a network."""
    try:
        folder = Path(
            snapshot_download(repo, revision=revision, allow_patterns=[CONFIG], local_files_only=True)
        )
    except LocalEntryNotFoundError as error:
        at = "" if revision is None else f" at {revision}"
        raise HubError(
            f"{repo}{at} is not in the cache, and HF_HUB_OFFLINE forbids the network; unset it and run the "
            "same command again"
        ) from error
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    try:
        check_has_checkpoint(repo, names)
        choose_weights(repo, names, (folder / INDEX).read_bytes() if INDEX in names else None)
    except NoCheckpointError as error:
        raise HubError(
            f"{repo} is not wholly in the cache ({folder} has {len(names)} of its files and not all that "
            "conversion needs), and HF_HUB_OFFLINE forbids the network; unset it and run the same command "
            "again"
        ) from error
    if before_weights is not None:
        before_weights(folder)
    return FetchedCheckpoint(folder, repo, folder.name)
