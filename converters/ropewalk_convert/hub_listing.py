"""What a Hugging Face repository has at one commit: names, sizes and checksums."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HFValidationError
from huggingface_hub.hf_api import ModelInfo
from huggingface_hub.utils import validate_repo_id

from ropewalk_convert.hub_cache import is_safe_name
from ropewalk_convert.hub_download import HubFile
from ropewalk_convert.hub_errors import HubError, explained, not_a_hub

_HEX = re.compile(r"[0-9a-f]{40,64}")


@dataclass(frozen=True)
class RepositoryFiles:
    """The files of a repository at one commit.

    Attributes:
        repo: the repository, OWNER/NAME.
        commit: the commit.
        files: its files, by name; those whose names would leave a folder are left out.
    """

    repo: str
    commit: str
    files: tuple[HubFile, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all files."""
        return tuple(file.path for file in self.files)

    def file(self, name: str) -> HubFile:
        """The file of a name that is among `names`."""
        return next(file for file in self.files if file.path == name)


def is_repo_name(repo: str) -> bool:
    """Whether a text has the form OWNER/NAME."""
    try:
        validate_repo_id(repo)
    except HFValidationError:
        return False
    return repo.count("/") == 1


def repo_url(repo: str) -> str:
    """The page of a repository, OWNER/NAME."""
    return f"{constants.ENDPOINT}/{repo}"


def list_files(repo: str, revision: str | None = None) -> RepositoryFiles:
    """Ask the hub which files a repository has.

    Args:
        repo: the repository, OWNER/NAME.
        revision: a branch, tag or commit; the main branch where None.

    Raises:
        HubError: it cannot be asked.
    """
    with explained(repo, revision):
        try:
            info = HfApi(library_name="ropewalk").model_info(
                repo, revision=revision, files_metadata=True, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT
            )
        except (KeyError, TypeError, ValueError) as error:  # no JSON, or not that of a repository
            raise HubError(not_a_hub()) from error
    if info.sha is None or _HEX.fullmatch(info.sha) is None:
        raise HubError(not_a_hub())
    return RepositoryFiles(repo, info.sha, tuple(sorted(_files(info), key=lambda file: file.path)))


def _files(info: ModelInfo) -> Iterator[HubFile]:
    for sibling in info.siblings or ():
        if sibling.size is not None and is_safe_name(sibling.rfilename):
            sha256 = _checksum(sibling.lfs.sha256) if sibling.lfs else None
            yield HubFile(sibling.rfilename, sibling.size, sha256, _checksum(sibling.blob_id))


def _checksum(text: str | None) -> str | None:
    """What a hub tells as a checksum, if it is one: files are named after it."""
    return text if text is not None and _HEX.fullmatch(text) else None
