"""Files, folders and standard input, as a person names them -> one document."""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import BinaryIO

from ropewalk.documents.document import (
    BinaryFileError,
    Document,
    DocumentError,
    EmptyFileError,
    OnProgress,
    Piece,
    Reading,
    Source,
    joined,
)
from ropewalk.documents.files import (
    MAX_BYTES,
    STANDARD_INPUT,
    head_of,
    read_file,
    read_standard_input,
    regular_file,
    shown_name,
    too_large,
)
from ropewalk.documents.formats import as_written, format_of, is_read_by_path, is_surely_binary
from ropewalk.documents.selection import Selection, select
from ropewalk.documents.source_tree import Tree, TreeFile, list_tree
from ropewalk.wording.quantities import count

_STANDARD_INPUT = "-"
_MOST_NOTICES = 5
_MOST_ENDINGS = 4


def read_documents(
    sources: Sequence[str],
    *,
    stdin: BinaryIO | None = None,
    on_progress: OnProgress | None = None,
    selection: Selection | None = None,
) -> Document:
    """Read what a person has named, as one document.

    Several files are joined in the order given, and those of a folder by their names, each under a line
    `==> name <==`: what `head` and `tail` print between files, short, known to models, and without an end
    mark that a text could contain.

    Args:
        sources: files and folders; `-` is standard input.
        stdin: standard input, for `-`; it is read to its end.
        on_progress: told the bytes that are done and those that there are; the latter grows while it is not
            known (0 at first). An error that it raises ends the reading and passes through.
        selection: the part of it to keep; None for all.

    Raises:
        DocumentError: one of them is missing, unreadable, binary, empty, too large, of a format that is not
            read, or has nothing of what is selected.
    """
    if not sources:
        raise DocumentError("There is nothing to read; name a file, a folder, or - for standard input.")
    work = _Work(on_progress)
    for name in sources:
        work.plan(name)
    for item in work.items:
        if isinstance(item, _Named):
            work.read_named(item, stdin)
        else:
            work.read_tree(item)
    document = _joined(work)
    return document if selection is None else select(document, selection)


@dataclass(frozen=True)
class _Named:
    """A file that was named, or standard input where there is no path."""

    name: str
    path: Path | None
    size: int


@dataclass(frozen=True)
class _Folder:
    """A folder that was named, and those of its files that are to be read."""

    name: str
    tree: Tree
    files: tuple[TreeFile, ...]


@dataclass
class _Work:
    """What is to be read, what of it is read, and how far that is."""

    on_progress: OnProgress | None
    items: list[_Named | _Folder] = field(default_factory=list)
    done: int = 0
    total: int = 0
    n_characters: int = 0
    readings: list[tuple[str, Reading]] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    _seen: set[tuple[int, int]] = field(default_factory=set)

    def tick(self) -> None:
        """Tell how far it is."""
        if self.on_progress is not None:
            self.on_progress(self.done, self.total)

    def plan(self, name: str) -> None:
        """Look at one thing that was named: a file, a folder, standard input."""
        if name == _STANDARD_INPUT:
            if any(isinstance(item, _Named) and item.path is None for item in self.items):
                raise DocumentError("Standard input (-) is named twice, and can be read once only.")
            self.items.append(_Named(STANDARD_INPUT, None, 0))
            return
        if not name:
            raise DocumentError("A file's name is empty; name a file, a folder, or - for standard input.")
        found = regular_file(name)
        identity = (found.st_dev, found.st_ino)
        if identity in self._seen:
            self.notices.append(f"{shown_name(name)} is named twice; it is read once.")
            return
        self._seen.add(identity)
        if not stat.S_ISDIR(found.st_mode):
            self.items.append(_Named(shown_name(name), Path(name), found.st_size))
            self.total += found.st_size
            return
        tree = list_tree(name, self.tick)
        fresh = tuple(file for file in tree.files if file.identity not in self._seen)
        self._seen |= {file.identity for file in fresh}
        if len(fresh) < len(tree.files):
            twice = count(len(tree.files) - len(fresh), "file")
            self.notices.append(f"{shown_name(name)}: {twice} named before, or linked twice, read once.")
        shown = name if PurePath(name).name else Path(name).resolve().name or name  # `.` has no name
        self.items.append(_Folder(shown_name(shown), tree, fresh))
        self.total += sum(file.size for file in fresh)

    def read_named(self, item: _Named, stdin: BinaryIO | None) -> None:
        """Read a file that was named itself: if it cannot be read, nothing is."""
        size = item.size
        if item.path is None:
            source = Source(item.name, read_standard_input(stdin, self.tick))
            size = len(source.data)
            self.total += size
        else:
            source, notice = self._source(item.name, item.path, head_of(item.path))
            self.notices += [notice] if notice else []
        reading = format_of(source).read(source, self._within(size))
        if reading.is_blank:
            raise EmptyFileError(f"{item.name} has no text in it; name a file with text.")
        self._keep(item.name, reading)
        self.notices += reading.notices
        self.done += size
        self.tick()

    def read_tree(self, folder: _Folder) -> None:
        """Read the files of a folder; those that are no text, or cannot be read, are told in notices."""
        binary: list[str] = []
        told: list[str] = []
        n_before = len(self.readings)
        for file in folder.files:
            try:
                reading = self._read_of_tree(file, as_source=folder.tree.is_repository)
            except BinaryFileError:
                binary.append(file.name)
            except EmptyFileError:
                pass  # an empty file says nothing
            except DocumentError as error:
                told.append(f"{error} It is left out.")
            else:
                told += reading.notices
                self._keep(file.name, reading)
            self.done += file.size
            self.tick()
        if len(self.readings) == n_before and not self._all_seen(folder):
            others = f", only {count(len(binary), 'file')} of other kinds" if binary else ""
            raise EmptyFileError(
                f"{folder.name} has no text in it{others}, .gitignore heeded; name another folder, or a file."
            )
        self.notices += folder.tree.notices
        if binary:
            self.notices.append(_binaries(folder.name, binary))
        self.notices += told[:_MOST_NOTICES]
        if len(told) > _MOST_NOTICES:
            more = count(len(told) - _MOST_NOTICES, "more file")
            self.notices.append(f"{folder.name}: there is something to say of {more}; name one to see what.")

    def _read_of_tree(self, file: TreeFile, *, as_source: bool) -> Reading:
        """Read a file of a folder."""
        head = head_of(file.path)
        if is_surely_binary(head, file.name):
            raise BinaryFileError(file.name)
        source, notice = self._source(file.name, file.path, head)
        kind = as_written(source) if as_source else format_of(source)
        reading = kind.read(source, self._within(file.size))
        if reading.is_blank:
            raise EmptyFileError(file.name)
        notices = (notice, *reading.notices) if notice else reading.notices
        return Reading(reading.pieces, notices)

    def _source(self, name: str, path: Path, head: bytes) -> tuple[Source, str | None]:
        """A file as its reader wants it, and a notice where it grew meanwhile."""
        if is_read_by_path(head):
            return Source(name, head, path), None
        data, notice = read_file(path, self.tick)
        return Source(name, data, path), notice

    def _keep(self, name: str, reading: Reading) -> None:
        self.readings.append((name, reading))
        self.n_characters += sum(len(piece.text) for piece in reading.pieces)
        if self.n_characters > MAX_BYTES:
            raise too_large("All of it together", self.n_characters)

    def _all_seen(self, folder: _Folder) -> bool:
        """Whether a folder has files, and all of them were named before."""
        return bool(folder.tree.files) and not folder.files

    def _within(self, size: int) -> OnProgress:
        """The progress of one file, in units of its own, as bytes of all."""

        def told(done: int, total: int) -> None:
            if self.on_progress is not None:
                self.on_progress(self.done + size * min(done, total) // max(1, total), self.total)

        return told


def _joined(work: _Work) -> Document:
    """One file by itself as it is; several, and those of folders, each under a line that names it."""
    alone = len(work.items) == 1 and isinstance(work.items[0], _Named)
    pieces: list[tuple[str, bool, Piece]] = []
    before = ""
    for name, reading in work.readings:
        if not alone:
            pieces.append((name, True, Piece(f"{before}==> {name} <==\n")))
        pieces += [(name, False, piece) for piece in reading.pieces]
        last = next(piece.text for piece in reversed(reading.pieces) if piece.text)
        before = "\n" if last.endswith("\n") else "\n\n"
    others = len(work.items) - 1
    name = work.items[0].name
    return joined(name if others == 0 else f"{name} and {others} more", pieces, work.notices)


def _binaries(folder: str, names: list[str]) -> str:
    """`src: 12 files that are not text are left out (9 .png, 3 .so).`"""
    endings = Counter(PurePath(name).suffix.lower() or "without ending" for name in names).most_common()
    kinds = ", ".join(f"{number:,} {ending}" for ending, number in endings[:_MOST_ENDINGS])
    kinds += ", ..." if len(endings) > _MOST_ENDINGS else ""
    if len(names) == 1:
        return f"{folder}: {names[0]} is not text, and left out."
    return f"{folder}: {len(names):,} files that are not text are left out ({kinds})."
