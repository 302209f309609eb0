"""Which snapshot spares the most of reading a text."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from ropewalk.sessions.snapshot_entry import Entry
from ropewalk.sessions.snapshot_manifest import DamagedSnapshot, Tokens, checksum_of, tokens_bytes

OnDamage = Callable[[Path, str], None]
"""Told a snapshot's folder and what is wrong with it."""

_LEAST_SHARE = 8  # of a snapshot, an eighth must be of use: the rest is read from the disk for nothing


def most_in_common(entries: Iterable[Entry], wanted: Tokens, on_damage: OnDamage) -> tuple[Entry, int] | None:
    """The snapshot with the longest beginning of a text, and its length; None where none is worth it.

    Token files are read of those alone that may have more than what was found before.

    Args:
        entries: all of the text's key.
        wanted: the text.
        on_damage: told of those whose tokens are not what was written.
    """
    found: Entry | None = None
    most = 0
    for entry in sorted(entries, key=lambda entry: _at_most(entry, wanted), reverse=True):
        if _at_most(entry, wanted) <= most:
            break
        common = _in_common(entry, wanted, on_damage)
        if common > most and common * _LEAST_SHARE >= entry.manifest.n_tokens:
            found, most = entry, common
    return None if found is None else (found, most)


def is_beginning(entry: Entry, tokens: Tokens) -> bool:
    """Whether a snapshot's text is a beginning of another, longer one."""
    manifest = entry.manifest
    return (
        manifest.n_tokens < len(tokens)
        and manifest.first_tokens == tuple(tokens[: len(manifest.first_tokens)].tolist())
        and manifest.tokens_checksum == checksum_of(tokens_bytes(tokens[: manifest.n_tokens]))
    )


def _at_most(entry: Entry, wanted: Tokens) -> int:
    return min(entry.manifest.n_tokens, len(wanted))


def _in_common(entry: Entry, wanted: Tokens, on_damage: OnDamage) -> int:
    """Tokens of use: of a text that cannot be cut all or none."""
    manifest = entry.manifest
    if not manifest.key.rolls_back:
        return manifest.n_tokens if is_beginning(entry, wanted) else 0
    common = _common_prefix(np.asarray(manifest.first_tokens, np.int32), wanted)
    if common < len(manifest.first_tokens):
        return common
    try:
        return _common_prefix(entry.tokens(), wanted)
    except DamagedSnapshot as damage:
        on_damage(entry.folder, str(damage))
    except OSError:  # dropped by another process meanwhile
        pass
    return 0


def _common_prefix(first: Tokens, second: Tokens) -> int:
    shorter = min(len(first), len(second))
    different = np.flatnonzero(first[:shorter] != second[:shorter])
    return int(different[0]) if len(different) else shorter
