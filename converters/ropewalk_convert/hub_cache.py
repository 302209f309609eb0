"""What has been fetched from the hub and lies in a folder; nothing here touches the network."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

_SPLIT_NAME = re.compile(r"(?P<stem>.*)-(?P<part>\d{5})-of-(?P<parts>\d{5})\.gguf", re.DOTALL)


@dataclass(frozen=True)
class SplitName:
    """The name of one part of a split GGUF model.

    Attributes:
        stem: what the names of all parts begin with.
        part: which part it is, from 1.
        parts: how many there are.
    """

    stem: str
    part: int
    parts: int

    @classmethod
    def of(cls, name: str) -> SplitName | None:
        """A file's name taken apart; None where it is not one of several parts."""
        match = _SPLIT_NAME.fullmatch(name)
        if match is None:
            return None
        return cls(match["stem"], int(match["part"]), int(match["parts"]))

    @property
    def all_names(self) -> tuple[str, ...]:
        """The names of all parts, in order."""
        return tuple(f"{self.stem}-{i:05d}-of-{self.parts:05d}.gguf" for i in range(1, self.parts + 1))


@dataclass(frozen=True)
class Origin:
    """Where a fetched file came from, kept beside it.

    Attributes:
        repo: the repository.
        commit: the commit it was fetched at.
        size: bytes.
        sha256: of its content, None where the hub did not tell it.
    """

    repo: str
    commit: str
    size: int
    sha256: str | None

    @classmethod
    def read(cls, path: Path) -> Origin | None:
        """The origin of a fetched file; None where there is no record of it, or none that fits the file."""
        try:
            origin = cls(**json.loads(_record(path).read_text(encoding="utf-8")))
            return origin if origin.size == path.stat().st_size else None
        except (OSError, ValueError, TypeError):
            return None

    def write(self, path: Path) -> None:
        """Keep this as the origin of the file at `path`."""
        _record(path).write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")


def forget_origin(path: Path) -> None:
    """Remove the record of a file that is about to be replaced."""
    _record(path).unlink(missing_ok=True)


@dataclass(frozen=True)
class FetchedModel:
    """A GGUF model in the cache.

    Attributes:
        path: its file; of a split one, the first, by which it is loaded.
        file: its name in the repository.
        commit: the commit it is from, None where that is not known, or not the same for all parts.
        size: bytes, of all parts.
    """

    path: Path
    file: str
    commit: str | None
    size: int


def is_safe_name(file: str) -> bool:
    """Whether a name in a repository stays inside the folder that it is joined to."""
    path = PurePosixPath(file)
    return bool(path.name) and not path.is_absolute() and ".." not in path.parts and "\\" not in file


def find_fetched(folder: Path, file: str) -> FetchedModel | None:
    """A model that is wholly in the cache.

    Args:
        folder: the repository's folder.
        file: the name in the repository, a safe one; of a split model, any part's.
    """
    split = SplitName.of(file)
    names = (file,) if split is None else split.all_names
    paths = [folder / name for name in names]
    if not file.lower().endswith(".gguf") or not paths or not all(path.is_file() for path in paths):
        return None
    commits = {origin.commit if (origin := Origin.read(path)) else None for path in paths}
    return FetchedModel(
        path=paths[0],
        file=names[0],
        commit=commits.pop() if len(commits) == 1 else None,
        size=sum(path.stat().st_size for path in paths),
    )


def fetched_models(folder: Path) -> tuple[FetchedModel, ...]:
    """The models of a repository that are wholly in the cache, by name.

    Args:
        folder: the repository's folder; there may be none.
    """
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.gguf"))
    found = {model.file: model for name in names if (model := find_fetched(folder, name)) is not None}
    return tuple(found.values())


def _record(path: Path) -> Path:
    return path.with_name(f".{path.name}.json")
