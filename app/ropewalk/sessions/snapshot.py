"""A snapshot as those see it who use it."""

from __future__ import annotations

from dataclasses import dataclass

from ropewalk.sessions.snapshot_entry import Entry
from ropewalk.sessions.snapshot_key import SnapshotKey


@dataclass(frozen=True)
class Snapshot:
    """A text that need not be read again.

    Attributes:
        id: its name: 16 hexadecimal digits.
        key: what it was read with.
        title: of the text.
        n_tokens: its length.
        n_bytes: what it takes on the disk.
        created: seconds since 1970.
        last_used: likewise.
        common: how many tokens at its beginning are those that were looked for; 0 where none were.
    """

    id: str
    key: SnapshotKey
    title: str
    n_tokens: int
    n_bytes: int
    created: float
    last_used: float
    common: int = 0


class UnknownSnapshot(Exception):
    """An id that is no snapshot's, or the beginning of several; the message is a sentence."""


@dataclass(frozen=True)
class Pruned:
    """What was removed.

    Attributes:
        dropped: snapshots that were too many.
        damaged: snapshots that were not what was written.
        leftovers: what killed processes had left behind.
        budget: bytes that the rest is within.
    """

    dropped: tuple[Snapshot, ...]
    damaged: int
    leftovers: int
    budget: int


def described(entry: Entry, common: int = 0) -> Snapshot:
    """What is on the disk, in these words."""
    manifest = entry.manifest
    return Snapshot(
        entry.id,
        manifest.key,
        manifest.title,
        manifest.n_tokens,
        entry.n_bytes,
        manifest.created,
        entry.last_used,
        common,
    )
