"""The pinned llama-cpp-python source distribution: described, fetched, checked, unpacked."""

from __future__ import annotations

import re
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from provision.digests import check_sha256, file_sha256
from provision.failure import ProvisionError
from provision.tools import Tools, download

_LINE = re.compile(r'(\w+) = "([^"\\]*)"')


@dataclass(frozen=True)
class Upstream:
    """What `patches/upstream.toml` says.

    Attributes:
        name: the distribution's name on the package index.
        version: the release that the patches are made for.
        sha256: of its source distribution.
        local_label: what the patched version carries after the `+`.
    """

    name: str
    version: str
    sha256: str
    local_label: str

    @property
    def patched_version(self) -> str:
        """The version that the patched wheel calls itself."""
        return f"{self.version}+{self.local_label}"


def read_upstream(path: Path) -> Upstream:
    """Read `upstream.toml`: string keys at the top level, comments, nothing else (a subset of TOML).

    Raises:
        ProvisionError: a line or the set of keys is not as it should be.
    """
    values: dict[str, str] = {}
    for number, raw in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None or match[1] in values:
            raise ProvisionError(f'{path}, line {number} is {line!r}; it must be a new key = "value".')
        values[match[1]] = match[2]
    wanted = {"name", "version", "sha256", "local_label"}
    if set(values) != wanted:
        raise ProvisionError(f"{path} has the keys {sorted(values)}; it must have {sorted(wanted)}.")
    return Upstream(**values)


def fetch_sdist(upstream: Upstream, folder: Path, tools: Tools) -> Path:
    """The source distribution's archive, downloaded by name unless `folder` has it already.

    Raises:
        ProvisionError: it cannot be had, or is not the pinned one.
    """
    kept = folder / f"{upstream.sha256}.tar.gz"
    if kept.exists() and file_sha256(kept) == upstream.sha256:
        return kept
    requirement = f"{upstream.name}=={upstream.version}"
    with download(tools, requirement, folder, f"Downloading {requirement}", source=True) as archive:
        check_sha256(archive, upstream.sha256, "the package index serves another file than the pinned one")
        archive.replace(kept)
    return kept


def unpack(archive: Path, target: Path, on_progress: Callable[[int, int], None] | None = None) -> None:
    """Unpack a source distribution's one top folder as `target`, regular files only.

    Its `.git` is left out: it is large, and version information from it would describe something unpatched.

    Raises:
        ProvisionError: the archive is broken, or has a member that is no plain file or leads outside.
    """
    try:
        with tarfile.open(archive) as tar:
            members = tar.getmembers()
            for index, member in enumerate(members, start=1):
                path = _safe_path(member.name, archive)
                if on_progress is not None:
                    on_progress(index, len(members))
                if member.isdir() or path.parts[1:2] == (".git",):
                    continue
                content = tar.extractfile(member) if member.isreg() else None
                if content is None:
                    raise ProvisionError(
                        f"{archive.name} has {member.name!r}, which is no plain file; not unpacked."
                    )
                destination = target.joinpath(*path.parts[1:])
                destination.parent.mkdir(parents=True, exist_ok=True)
                with content, destination.open("wb") as out:
                    shutil.copyfileobj(content, out)
                destination.chmod(0o755 if member.mode & 0o100 else 0o644)
    except (tarfile.TarError, EOFError) as error:
        raise ProvisionError(f"{archive} cannot be unpacked ({error}); delete it and run again.") from error


def _safe_path(name: str, archive: Path) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ProvisionError(f"{archive.name} has {name!r}, which leads outside its folder; not unpacked.")
    return path
