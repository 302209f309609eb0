"""A folder: its files in a stable order, those that git would leave out left out."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ropewalk.documents import ignore_rules
from ropewalk.documents.document import DocumentError
from ropewalk.documents.files import shown_name
from ropewalk.documents.ignore_rules import (
    VERSION_CONTROL,
    TooManyFilesError,
    files_that_count,
    keeps_versions,
)
from ropewalk.wording.quantities import count

_MOST_NAMED = 3


@dataclass(frozen=True)
class TreeFile:
    """A file of a folder.

    Attributes:
        path: where it lies.
        name: what it is called: the folder as it was named, and the way from there.
        size: in bytes.
        identity: device and number, the same for whatever name leads to it.
    """

    path: Path
    name: str
    size: int
    identity: tuple[int, int]


@dataclass(frozen=True)
class Tree:
    """What a folder holds.

    Attributes:
        files: the regular files, by the names on the way to each.
        notices: what is left out that somebody may miss, each a sentence.
        is_repository: whether the folder lies in a git repository, and is read as source code.
    """

    files: tuple[TreeFile, ...]
    notices: tuple[str, ...]
    is_repository: bool


def list_tree(folder: str, on_entry: Callable[[], None]) -> Tree:
    """List a folder with all below it.

    Links are not followed: what they lead to in the folder is there anyway, and the rest was not named. A
    repository within is listed by its own rules.

    Args:
        folder: the folder, as it was named.
        on_entry: called every so often; an error that it raises ends the listing.

    Raises:
        DocumentError: it holds more than `MAX_FILES` files, or nothing, or git's own, or cannot be listed.
    """
    if keeps_versions(Path(folder)):
        raise DocumentError(
            f"{shown_name(folder)} holds git's own files, not those that it keeps; name a folder with these "
            "(git clone makes one of a bare repository)."
        )
    files: list[TreeFile] = []
    links: list[str] = []
    pipes: list[str] = []
    unreadable: list[str] = []
    repository: bool | None = None
    pending = [""]
    while pending:
        inside = pending.pop()
        try:
            found = files_that_count(Path(folder, inside), on_entry)
        except TooManyFilesError:
            raise _too_many(folder) from None
        repository = found.is_repository if repository is None else repository
        unreadable += [_named(folder, inside + name) for name in found.unreadable]
        for relative in found.files:
            on_entry()
            path = Path(folder, inside + relative)
            name = _named(folder, inside + relative)
            if not VERSION_CONTROL.isdisjoint(relative.split("/")):
                continue
            try:
                status = path.lstat()
            except FileNotFoundError:
                continue  # deleted, but still in the repository's index
            except OSError:
                unreadable.append(name)
                continue
            if stat.S_ISREG(status.st_mode):
                files.append(TreeFile(path, name, status.st_size, (status.st_dev, status.st_ino)))
            elif stat.S_ISDIR(status.st_mode):
                if (path / ".git").exists():  # a repository within; without one it would list this one again
                    pending.append(f"{inside}{relative}/")
            elif stat.S_ISLNK(status.st_mode):
                links.append(name)
            else:
                pipes.append(name)
            if len(files) > ignore_rules.MAX_FILES:
                raise _too_many(folder)
    if not files and unreadable:
        raise DocumentError(f"{unreadable[0]} cannot be listed; check its permissions (ls -ld).")
    files.sort(key=lambda file: [os.fsencode(name) for name in file.path.parts])
    notices = [
        _left_out(shown_name(folder), links, "link", "links are not followed"),
        _left_out(shown_name(folder), pipes, "pipe or device", "only files are read", "pipes or devices"),
        _left_out(shown_name(folder), unreadable, "folder", "check the permissions (ls -ld)"),
    ]
    return Tree(tuple(files), tuple(filter(None, notices)), bool(repository))


def _too_many(folder: str) -> DocumentError:
    return DocumentError(
        f"{shown_name(folder)} holds more than {count(ignore_rules.MAX_FILES, 'file')}; "
        "name a folder in it, or files."
    )


def _named(folder: str, relative: str) -> str:
    """How a file is called: `src/main.c` for `main.c` in `src/`, `main.c` in `.`."""
    start = "" if folder in (".", "./") else folder.rstrip("/") + "/"
    return shown_name(start + relative)


def _left_out(folder: str, names: list[str], noun: str, why: str, plural: str = "") -> str:
    """`src: 5 links are left out, as links are not followed (a, b, c, ...).`; nothing for none."""
    if not names:
        return ""
    named = ", ".join(names[:_MOST_NAMED]) + (", ..." if len(names) > _MOST_NAMED else "")
    verb = "is" if len(names) == 1 else "are"
    return f"{folder}: {count(len(names), noun, plural)} {verb} left out: {why} ({named})."
