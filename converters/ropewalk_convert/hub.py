"""GGUF models of Hugging Face repositories: what there is, and fetching one."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import hf_hub_url

from ropewalk_convert.errors import SpaceError
from ropewalk_convert.hub_cache import (
    FetchedModel,
    Origin,
    SplitName,
    find_fetched,
    forget_origin,
)
from ropewalk_convert.hub_download import HubFile, bytes_there, download_gguf
from ropewalk_convert.hub_errors import HubError, explained
from ropewalk_convert.hub_listing import is_repo_name, list_files
from ropewalk_convert.target import size_text

__all__ = [
    "FetchedModel",
    "HubError",
    "HubFile",
    "HubListing",
    "HubModel",
    "fetch_gguf",
    "find_fetched",
    "is_repo_name",
    "list_gguf_files",
    "missing_parts",
    "repo_folder",
]

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True)
class HubModel:
    """A GGUF model of a repository: one file, or the parts of a split one, in order."""

    parts: tuple[HubFile, ...]

    @property
    def name(self) -> str:
        """The name of its first file."""
        return self.parts[0].path

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return sum(part.size for part in self.parts)


@dataclass(frozen=True)
class HubListing:
    """The GGUF models of a repository at one commit.

    Attributes:
        repo: the repository, OWNER/NAME.
        commit: the commit.
        models: the models, by name.
    """

    repo: str
    commit: str
    models: tuple[HubModel, ...]

    def model(self, file: str) -> HubModel:
        """The model that a file is of; any part of a split one names it.

        Raises:
            HubError: there is no such GGUF file.
        """
        for model in self.models:
            if any(part.path == file for part in model.parts):
                return model
        raise HubError(f"{self.repo} has no GGUF file {file}; it has {', '.join(self.names)}")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the models, of each its first file."""
        return tuple(model.name for model in self.models)


def repo_folder(models: Path, repo: str) -> Path:
    """The folder of a repository among those of all."""
    return models / repo.replace("/", "--")


def list_gguf_files(repo: str, revision: str | None = None) -> HubListing:
    """Ask the hub which GGUF models a repository has.

    Args:
        repo: the repository, OWNER/NAME.
        revision: a branch, tag or commit; the main branch where None.

    Raises:
        HubError: it has none, or cannot be asked.
    """
    files = list_files(repo, revision)
    models = _models(file for file in files.files if file.path.lower().endswith(".gguf"))
    if not models:
        raise HubError(
            f"{repo} has no GGUF file; look for a repository of the same model that has, often named "
            "after it with -GGUF at the end"
        )
    return HubListing(repo, files.commit, models)


def _models(files: Iterable[HubFile]) -> tuple[HubModel, ...]:
    """Group the parts of split models."""
    groups: dict[tuple[str, int], list[HubFile]] = {}
    for file in files:
        split = SplitName.of(file.path)
        groups.setdefault((file.path, 1) if split is None else (split.stem, split.parts), []).append(file)
    return tuple(HubModel(tuple(parts)) for parts in groups.values())


def missing_parts(listing: HubListing, model: HubModel, folder: Path) -> tuple[HubFile, ...]:
    """The files of a model that are not in its repository's folder yet, or are there from another commit."""
    return tuple(part for part in model.parts if not _is_there(folder / part.path, part, listing))


def fetch_gguf(
    listing: HubListing,
    model: HubModel,
    folder: Path,
    progress: Callable[[int, int], None] | None = None,
) -> FetchedModel:
    """Fetch a model into a folder: what is missing of it, going on from what an earlier run left.

    Args:
        listing: the listing that the model is of.
        model: the model.
        folder: where its files go, under the names they have in the repository; made where missing.
        progress: called with bytes there and bytes in all; may raise to stop.

    Raises:
        SourceError: a file is no GGUF file, and was not kept.
        SpaceError: the disk has too little room.
        HubError: it cannot be had.
    """
    split = SplitName.of(model.name)
    if split is not None and tuple(part.path for part in model.parts) != split.all_names:
        raise HubError(
            f"{listing.repo} has {len(model.parts)} of the {split.parts} parts of {split.stem}; "
            "choose another file"
        )
    missing = missing_parts(listing, model, folder)
    done = model.size - sum(part.size for part in missing)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _check_space(listing, model, missing, folder)
        for part in missing:
            before = done

            def report(n_bytes: int, before: int = before) -> None:
                if progress is not None:
                    progress(before + n_bytes, model.size)

            _fetch_part(listing, part, folder / part.path, report)
            done += part.size
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise SpaceError(
                f"the disk filled up while {model.name} was fetched, which needs {size_text(model.size)}; "
                "make room, and run the same command again, it goes on from there"
            ) from error
        raise HubError(
            f"{error.filename or folder} cannot be written ({error.strerror or error}); "
            "check whose folder it is"
        ) from error
    return FetchedModel(folder / model.name, model.name, listing.commit, model.size)


def _is_there(path: Path, part: HubFile, listing: HubListing) -> bool:
    """Whether the very file that is asked for has been fetched before."""
    origin = Origin.read(path)
    if origin is None or origin.size != part.size:
        return False
    return origin.commit == listing.commit or (part.sha256 is not None and origin.sha256 == part.sha256)


def _check_space(listing: HubListing, model: HubModel, missing: tuple[HubFile, ...], folder: Path) -> None:
    needed = sum(part.size - bytes_there(folder / part.path, part, listing.commit) for part in missing)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SpaceError(
            f"{model.name} needs {size_text(needed)} more and the disk of {folder} has "
            f"{size_text(free)} free; make room, and run the same command again"
        )


def _fetch_part(listing: HubListing, part: HubFile, target: Path, progress: Callable[[int], None]) -> None:
    url = hf_hub_url(listing.repo, part.path, revision=listing.commit)
    with explained(listing.repo):
        forget_origin(target)
        download_gguf(url, target, part, listing.commit, progress)
    Origin(listing.repo, listing.commit, part.size, part.sha256).write(target)
