"""Which files of a folder count: those that git would add, or has, by its own word where it is there.

Outside of a repository, where git is missing, and where it refuses the repository, dulwich reads the rules.
It agrees with git but for rare patterns (`/**/`, and some that a deeper `.gitignore` takes back).
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dulwich.ignore import IgnoreFilterManager
from dulwich.repo import Repo

VERSION_CONTROL = frozenset((".git", ".hg", ".svn", ".bzr", ".jj", "_darcs", "CVS"))
"""Folders in which versions are kept; never read."""

MAX_FILES = 100_000
"""Most files of one folder; a header line for each would alone be too long for any model."""

logging.getLogger("dulwich").addHandler(logging.NullHandler())  # it would write to stderr by itself

_POLL_SECONDS = 0.1
_NO_FSMONITOR = ("-c", "core.fsmonitor=false")  # a repository may name a program there, which git would run


class TooManyFilesError(Exception):
    """A folder that is walked through holds more than `MAX_FILES` files; how many more was not looked at."""


@dataclass
class Found:
    """What a folder holds.

    Attributes:
        files: what counts, each path as the system has it, relative to the folder, with `/`; links, pipes and
            folders with a repository of their own among them.
        unreadable: folders that cannot be listed.
        is_repository: whether the folder lies in a git repository.
    """

    files: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    is_repository: bool = False


def files_that_count(folder: Path, on_entry: Callable[[], None]) -> Found:
    """List what git would add of a folder, or has of it: `git ls-files -co --exclude-standard`.

    A folder that is itself ignored is read by its own rules, as it was named on purpose.

    Args:
        folder: the folder.
        on_entry: called for each entry, and while git works; an error that it raises ends it.

    Raises:
        TooManyFilesError: they are more than `MAX_FILES`, and git does not list them.
    """
    found = _by_git(folder, on_entry)
    return found if found is not None else _by_dulwich(folder, on_entry)


def keeps_versions(folder: Path) -> bool:
    """Whether a folder is a `.git`, or a bare repository: git's own files, none of those that it keeps."""
    try:
        return all((folder / part).is_dir() for part in ("objects", "refs")) and (folder / "HEAD").is_file()
    except OSError:
        return False


def _by_git(folder: Path, on_entry: Callable[[], None]) -> Found | None:
    """Ask git; None where it is not there, or knows of no repository, or ignores the folder itself."""
    listed = _git(folder, on_entry, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if listed is None:
        return None
    output, errors = listed
    found = Found(is_repository=True)
    found.files = sorted({os.fsdecode(name).rstrip("/") for name in output.split(b"\0") if name})
    if not found.files and _git(folder, on_entry, "check-ignore", "-q", ".") is not None:
        return None
    for line in errors.decode("utf-8", errors="replace").splitlines():
        if line.startswith("warning: could not open directory"):
            found.unreadable.append(line.split("'")[1] if line.count("'") > 1 else line)
    return found


def _git(folder: Path, on_entry: Callable[[], None], *arguments: str) -> tuple[bytes, bytes] | None:
    """Run git in a folder; what it says on stdout and stderr, or None where it is missing or fails."""
    program = shutil.which("git")
    if program is None or not Path(program).is_absolute() or Path(program).parent == Path.cwd():
        return None  # a git that lies in the folder worked in is not the person's
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    environment |= {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        process = subprocess.Popen(
            [program, *_NO_FSMONITOR, *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except OSError:
        return None
    try:
        while True:
            try:
                output, errors = process.communicate(timeout=_POLL_SECONDS)
                break
            except subprocess.TimeoutExpired:
                on_entry()
    except BaseException:
        process.kill()
        process.communicate()
        raise
    return (output, errors) if process.returncode == 0 else None


def _by_dulwich(folder: Path, on_entry: Callable[[], None]) -> Found:
    above = _Rules.of_repository(folder)
    if above is not None and above.is_ignored("", is_folder=True) and not above.holds_tracked(""):
        above = None
    rules = above or _Rules(IgnoreFilterManager(str(folder), [], False), "", frozenset())
    found = Found(is_repository=above is not None)
    for name in _walk(folder, rules, found.unreadable, on_entry):
        found.files.append(name)
        if len(found.files) > MAX_FILES:
            raise TooManyFilesError
    found.files.sort()
    return found


@dataclass(frozen=True)
class _Rules:
    """The rules of a folder; `prefix` leads to it from where they hold, and ends with `/` or is empty."""

    manager: IgnoreFilterManager
    prefix: str
    tracked: frozenset[str]

    @classmethod
    def of_repository(cls, folder: Path) -> _Rules | None:
        """The rules of the repository a folder lies in; None where it lies in none that can be read."""
        try:
            with Repo.discover(str(folder)) as repository:
                root = Path(repository.path).resolve()
                inside = folder.resolve().relative_to(root).as_posix()
                tracked = frozenset(os.fsdecode(name) for name in repository.open_index())
                manager = IgnoreFilterManager.from_repo(repository)
        except Exception:  # there is none, or it is damaged in one of many ways; files are there all the same
            return None
        return cls(manager, "" if inside == "." else f"{inside}/", tracked)

    def is_ignored(self, relative: str, *, is_folder: bool) -> bool:
        """Whether a file is left out; what is tracked is not, whatever the rules say."""
        path = self.prefix + relative
        if not path or path in self.tracked:
            return False
        try:
            return bool(self.manager.is_ignored(f"{path.rstrip('/')}/" if is_folder else path))
        except OSError:  # a `.gitignore` that cannot be read, or is a folder, leaves nothing out
            return False

    def holds_tracked(self, relative: str) -> bool:
        """Whether a folder, one within or all of it, holds something tracked."""
        start = f"{self.prefix}{relative}/" if relative else self.prefix
        return any(name.startswith(start) for name in self.tracked)


def _walk(folder: Path, rules: _Rules, unreadable: list[str], on_entry: Callable[[], None]) -> Iterator[str]:
    pending = [""]
    while pending:
        inside = pending.pop()
        try:
            with os.scandir(folder / inside) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            unreadable.append(inside.rstrip("/") or ".")
            continue
        for entry in listed:
            on_entry()
            relative = inside + entry.name
            if entry.is_dir(follow_symlinks=False):
                ignored = rules.is_ignored(relative, is_folder=True) and not rules.holds_tracked(relative)
                if entry.name in VERSION_CONTROL or ignored or keeps_versions(folder / relative):
                    continue
                if (folder / relative / ".git").exists():
                    yield relative  # a repository within, of rules of its own, as git names it
                else:
                    pending.append(f"{relative}/")
            elif not rules.is_ignored(relative, is_folder=False):
                yield relative
