"""What was read once, kept on disk: keys and values of texts, found again by the longest common beginning."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from platformdirs import user_cache_path

from ropewalk.engine import (
    Cancelled,
    Engine,
    EngineBusy,
    EngineDied,
    EngineError,
    EngineTimeout,
    PromptTooLong,
    SavedState,
    StateRefused,
)
from ropewalk.sessions import snapshot_entry
from ropewalk.sessions.snapshot import Pruned, Snapshot, UnknownSnapshot, described
from ropewalk.sessions.snapshot_budget import VARIABLE, budget_for, to_drop
from ropewalk.sessions.snapshot_entry import STATE, Entry, read_entry
from ropewalk.sessions.snapshot_key import SnapshotKey
from ropewalk.sessions.snapshot_manifest import (
    DamagedSnapshot,
    Manifest,
    checksum_of,
    snapshot_id,
    tokens_bytes,
)
from ropewalk.sessions.snapshot_search import OnDamage, is_beginning, most_in_common
from ropewalk.wording.files import shortened
from ropewalk.wording.quantities import size

BOUNDARY_TOKENS = 8
"""How many tokens before its end a text is saved: so many may be others once it has grown, or a question
follows, and windowed layers cannot go back."""

OnShare = Callable[[float], None]
"""Told the share done; what it raises ends the work and reaches the caller."""

_REMEDY = ": the text has to be read again"  # how the engine's sentences end: it is done here


class SnapshotShelf:
    """The snapshots in a folder.

    Any number of processes may use one folder at a time. What is damaged is removed with a notice, not kept:
    it is as large as what can be used, and nothing is in it that cannot be computed again.
    """

    def __init__(
        self,
        folder: Path | None = None,
        budget: int | None = None,
        notice: Callable[[str], None] = lambda _sentence: None,
    ) -> None:
        """The snapshots in `folder`, which need not exist.

        Args:
            folder: None for the user's cache directory.
            budget: most bytes to keep; 0 keeps nothing; None for `snapshot_budget.budget_for`'s.
            notice: told, in a sentence, what could not be kept or used.

        Raises:
            BudgetError: the environment's budget is no size.
        """
        self.folder = user_cache_path("ropewalk") / "snapshots" if folder is None else folder
        self._budget = budget
        self._notice = notice
        self.budget()

    def budget(self) -> int:
        """The most bytes to keep now."""
        if self._budget is not None:
            return self._budget
        return budget_for(self.folder, sum(entry.n_bytes for entry in self._entries()))

    def best(self, key: SnapshotKey, tokens: Sequence[int], *, n_ctx: int | None = None) -> Snapshot | None:
        """The snapshot that spares the most of reading a text; None where none spares any.

        Args:
            key: what the text is to be read with.
            tokens: the text.
            n_ctx: tokens of the context there is; longer snapshots do not fit into it.
        """
        entries = [
            entry
            for entry in self._entries(self._set_aside)
            if entry.manifest.key == key and (n_ctx is None or entry.manifest.n_tokens <= n_ctx)
        ]
        found = most_in_common(entries, np.asarray(tokens, np.int32), self._set_aside)
        return None if found is None else described(*found)

    def restore(
        self, engine: Engine, snapshot: Snapshot, on_progress: OnShare | None = None, *, sequence: int = 0
    ) -> int:
        """Let a sequence hold a snapshot's text, and return its length.

        Returns:
            0 where that cannot be: the sequence then holds nothing, or what it held. A snapshot that is
            damaged, or that the library does not take, is gone then, and a notice was given.

        Raises:
            EngineError: the engine fails in another way.
        """
        folder = self.folder / snapshot.id
        try:
            entry = read_entry(folder)
            held = engine.restore_state(
                entry.state, entry.manifest.saved_state(entry.tokens()), on_progress, sequence=sequence
            )
        except DamagedSnapshot as damage:
            self._set_aside(folder, str(damage))
        except StateRefused as refusal:
            if folder.exists():
                self._set_aside(folder, str(refusal).removesuffix(_REMEDY))
        except PromptTooLong as too_long:
            self._notice(f"The snapshot of {snapshot.title} is not used: {too_long}.")
        except EngineDied:
            self._remove_if_damaged(folder)
            raise
        except FileNotFoundError:
            pass  # another process dropped it meanwhile
        except OSError as error:
            self._notice(f"{folder} cannot be read ({error.strerror or error}), so the text is read again.")
        else:
            entry.touch()
            return held
        return 0

    def put(
        self,
        engine: Engine,
        key: SnapshotKey,
        title: str,
        on_progress: OnShare | None = None,
        *,
        sequence: int = 0,
        tokens: Sequence[int] | None = None,
    ) -> Snapshot | None:
        """Keep what a sequence holds now; shorter beginnings of the same text go.

        Args:
            engine: with the model that read it.
            key: what it was read with.
            title: of the text, for people.
            on_progress: told the share written.
            sequence: which one.
            tokens: what the sequence holds, where that is known: then nothing is written twice.

        Returns:
            The snapshot; None where it could not be kept: a notice says why.

        Raises:
            EngineError: the engine fails, or was cancelled.
        """
        title = shortened(title)
        budget = self.budget()
        if budget == 0:
            return None
        known = None if tokens is None else self._known(key, tokens)
        if known is not None:
            known.touch()
            return described(known)
        snapshot_entry.remove_leftovers(self.folder)
        try:
            with snapshot_entry.staged(self.folder) as staging:

                def progress(share: float) -> None:
                    _require_within(staging / STATE, budget)
                    if on_progress is not None:
                        on_progress(share)

                saved = engine.save_state(staging / STATE, progress, sequence=sequence)
                _require_within(staging / STATE, budget)
                entry = self._publish(staging, Manifest.of(key, title, time.time(), saved), saved)
        except (EngineDied, EngineTimeout, EngineBusy, Cancelled):
            raise
        except _OverBudgetError as over:
            self._notice(
                f"What was read of {title} is not kept: it takes more than {size(over.n_bytes)}, and the "
                f"budget for snapshots is {size(budget)} ({VARIABLE} sets it)."
            )
            return None
        except (EngineError, OSError) as error:
            why = str(error)
            if isinstance(error, OSError):
                why = f"{self.folder} cannot be written to ({error.strerror or error})"
            self._notice(f"What was read of {title} is not kept: {why}.")
            return None
        if entry is None:
            return None
        self._drop_superseded(entry, saved)
        for old in to_drop(self._entries(), budget, keep=entry.id):
            snapshot_entry.remove(old.folder)
        return described(entry)

    def list(self) -> tuple[Snapshot, ...]:
        """All snapshots, the last used first.

        Raises:
            OSError: the folder cannot be read.
        """
        snapshot_entry.entry_folders(self.folder)
        return tuple(sorted(map(described, self._entries()), key=lambda snapshot: -snapshot.last_used))

    def damaged(self) -> tuple[str, ...]:
        """The ids of those that are not what was written, as far as their manifests tell."""
        found: list[str] = []
        self._entries(lambda folder, _why: found.append(folder.name))
        return tuple(found)

    def delete(self, ids: Iterable[str]) -> tuple[str, ...]:
        """Remove snapshots, and return the ids of what is gone.

        Args:
            ids: of those to remove, or their beginnings.

        Raises:
            UnknownSnapshot: one names none or several; then nothing is removed.
            OSError: the folder cannot be read, or one cannot be removed.
        """
        folders = snapshot_entry.entry_folders(self.folder)
        wanted = {self._named(folders, id_) for id_ in ids}
        for folder in sorted(wanted):
            if not snapshot_entry.remove(folder):
                raise OSError(None, "Cannot be removed", str(folder))
        return tuple(sorted(folder.name for folder in wanted))

    def prune(self, budget: int | None = None) -> Pruned:
        """Remove what is damaged or left behind, and the least recently used beyond a budget.

        Args:
            budget: in bytes; None for the one in force.

        Raises:
            OSError: the folder cannot be read.
        """
        snapshot_entry.entry_folders(self.folder)
        leftovers = snapshot_entry.remove_leftovers(self.folder)
        damaged = sum(snapshot_entry.remove(self.folder / id_) for id_ in self.damaged())
        budget = self.budget() if budget is None else budget
        dropped = [
            described(entry)
            for entry in to_drop(self._entries(), budget)
            if snapshot_entry.remove(entry.folder)
        ]
        return Pruned(tuple(dropped), damaged, leftovers, budget)

    def _entries(self, on_damage: OnDamage = lambda _folder, _why: None) -> Sequence[Entry]:
        """All that can be read; none where the folder cannot."""
        try:
            folders = snapshot_entry.entry_folders(self.folder)
        except OSError:
            return []
        entries = []
        for folder in folders:
            try:
                entries.append(read_entry(folder))
            except DamagedSnapshot as damage:
                on_damage(folder, str(damage))
            except OSError:  # gone meanwhile, or another person's
                continue
        return entries

    def _known(self, key: SnapshotKey, tokens: Sequence[int]) -> Entry | None:
        try:
            return read_entry(self.folder / snapshot_id(key, checksum_of(tokens_bytes(tokens))))
        except (DamagedSnapshot, OSError):
            return None

    def _publish(self, staging: Path, manifest: Manifest, saved: SavedState) -> Entry | None:
        """Give a snapshot its name; one that is there already is as good, unless it is damaged."""
        if not saved.tokens:
            return None
        snapshot_entry.write_tokens(staging, tokens_bytes(saved.tokens))
        try:
            there = read_entry(self.folder / manifest.id)
        except FileNotFoundError:
            pass
        except DamagedSnapshot as damage:
            self._set_aside(self.folder / manifest.id, str(damage))
        else:
            there.touch()
            return there
        target = snapshot_entry.publish(staging, manifest)
        return Entry(target, manifest, manifest.created)

    def _drop_superseded(self, new: Entry, saved: SavedState) -> None:
        tokens = np.asarray(saved.tokens, np.int32)
        for entry in self._entries():
            if entry.manifest.key == new.manifest.key and is_beginning(entry, tokens):
                snapshot_entry.remove(entry.folder)

    def _remove_if_damaged(self, folder: Path) -> None:
        """After the engine's end: a file that was cut short while it was mapped, for one."""
        try:
            read_entry(folder)
        except DamagedSnapshot as damage:
            self._set_aside(folder, str(damage))
        except OSError:
            pass

    def _set_aside(self, folder: Path, why: str) -> None:
        removed = "was removed" if snapshot_entry.remove(folder) else "is not used"
        self._notice(f"The snapshot {folder.name} {removed}, as {why}; its text is read again.")

    def _named(self, folders: Sequence[Path], id_: str) -> Path:
        named = [folder for folder in folders if id_ and folder.name.startswith(id_.lower())]
        if len(named) != 1:
            which = "is the beginning of several snapshots' ids" if named else "is no snapshot's id"
            raise UnknownSnapshot(f"'{id_}' {which}: `ropewalk snapshots list` shows them")
        return named[0]


class _OverBudgetError(Exception):
    def __init__(self, n_bytes: int) -> None:
        super().__init__(n_bytes)
        self.n_bytes = n_bytes


def _require_within(state: Path, budget: int) -> None:
    """Ask as early as the file's size tells, so that a disk is not filled for nothing."""
    try:
        n_bytes = state.stat().st_size
    except FileNotFoundError:
        return
    if n_bytes > budget:
        raise _OverBudgetError(n_bytes)
