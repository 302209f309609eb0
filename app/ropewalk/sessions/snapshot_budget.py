"""How many bytes of snapshots are kept, and which go first."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from ropewalk.sessions.snapshot_entry import Entry

VARIABLE = "ROPEWALK_SNAPSHOT_BUDGET"
"""Environment variable with the most bytes to keep: `20GB`, `500MB`; 0 keeps none."""

_MOST = 20 * 10**9
_SHARE = 4  # of the room there would be without snapshots, a quarter
_SIZE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(?:(k|m|g|t)?b?|bytes?)", re.IGNORECASE)
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


class BudgetError(ValueError):
    """A budget that is no size."""


def parse_size(text: str) -> int:
    """Bytes that a text such as `20GB`, `1.5 gb` or `0` says, in powers of 1000.

    Raises:
        BudgetError: it says none.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise BudgetError(f"'{text}' is no size: write 20GB or 500MB, or 0 to keep nothing")
    return int(float(match[1]) * _UNITS[(match[2] or "").lower()])


def budget_for(folder: Path, kept: int) -> int:
    """The bytes that may be kept, by the environment, else by the disk.

    That is 20 GB, but no more than a quarter of the room that there would be without snapshots.

    Args:
        folder: where they are, or are to be.
        kept: bytes of those that are there.

    Raises:
        BudgetError: the environment's is no size.
    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted.strip():
        try:
            return parse_size(wanted)
        except BudgetError as error:
            raise BudgetError(f"{VARIABLE}: {error}") from None
    existing = next((parent for parent in (folder, *folder.parents) if parent.exists()), None)
    try:
        free = 0 if existing is None else shutil.disk_usage(existing).free
    except OSError:
        free = 0
    return min(_MOST, (free + kept) // _SHARE)


def to_drop(entries: Iterable[Entry], budget: int, keep: str = "") -> list[Entry]:
    """What has to go so that the rest is within a budget: the least recently used first.

    Args:
        entries: all there are.
        budget: in bytes.
        keep: the id of one that stays.
    """
    by_age = sorted(entries, key=lambda entry: entry.last_used)
    excess = sum(entry.n_bytes for entry in by_age) - budget
    dropped = []
    for entry in by_age:
        if excess <= 0:
            break
        if entry.id != keep:
            dropped.append(entry)
            excess -= entry.n_bytes
    return dropped
