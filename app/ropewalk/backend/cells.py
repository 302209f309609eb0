"""How many cells of a cache several sequences take together, where those that share cells count them once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class _Branch:
    """Cells that were written one after the other, one a position, for one sequence.

    Attributes:
        owner: the sequence that wrote them, and may write on.
        top: the position after the last one written.
    """

    owner: int
    top: int


@dataclass(frozen=True)
class _Stretch:
    """A sequence's positions from `start` to before `end` are in the cells of a branch."""

    branch: _Branch
    start: int
    end: int


class CellLedger:
    """Which cells each sequence is made of; positions run from 0 without gaps."""

    def __init__(self, n_sequences: int) -> None:
        """Nothing is held."""
        self._stretches: list[list[_Stretch]] = [[] for _ in range(n_sequences)]

    def length(self, sequence: int) -> int:
        """Positions of a sequence."""
        stretches = self._stretches[sequence]
        return stretches[-1].end if stretches else 0

    def set_length(self, sequence: int, length: int) -> None:
        """A sequence has grown by cells of its own, or was cut."""
        self._cut(sequence, length)
        start = self.length(sequence)
        if start == length:
            return
        stretches = self._stretches[sequence]
        last = stretches[-1] if stretches else None
        if last is not None and last.branch.owner == sequence and last.end == last.branch.top:
            last.branch.top = length
            stretches[-1] = _Stretch(last.branch, last.start, length)
        else:
            stretches.append(_Stretch(_Branch(sequence, length), start, length))

    def copy(self, source: int, target: int) -> None:
        """A sequence now has the cells of another, and none of its own."""
        self._stretches[target] = list(self._stretches[source])

    def used(self) -> int:
        """Cells that all sequences take together."""
        return self._count(self._stretches)

    def used_with(self, sequence: int, length: int) -> int:
        """Cells that would be taken if a sequence were cut to a length, at most its own."""
        others = [s for number, s in enumerate(self._stretches) if number != sequence]
        return self._count([*others, _cut(self._stretches[sequence], length)])

    def _cut(self, sequence: int, length: int) -> None:
        stretches = self._stretches[sequence]
        if length >= self.length(sequence):
            return
        self._stretches[sequence] = kept = _cut(stretches, length)
        if kept and not self._is_shared(kept[-1].branch, sequence):
            kept[-1].branch.top = length  # its cells are free again, and are written anew

    def _is_shared(self, branch: _Branch, sequence: int) -> bool:
        return any(
            stretch.branch is branch
            for number, stretches in enumerate(self._stretches)
            if number != sequence
            for stretch in stretches
        )

    @staticmethod
    def _count(sequences: list[list[_Stretch]]) -> int:
        by_branch: dict[int, list[tuple[int, int]]] = {}
        for stretches in sequences:
            for stretch in stretches:
                by_branch.setdefault(id(stretch.branch), []).append((stretch.start, stretch.end))
        return sum(_union(ranges) for ranges in by_branch.values())


def _cut(stretches: list[_Stretch], length: int) -> list[_Stretch]:
    return [
        _Stretch(stretch.branch, stretch.start, min(stretch.end, length))
        for stretch in stretches
        if stretch.start < length
    ]


def _union(ranges: list[tuple[int, int]]) -> int:
    """How many numbers lie in any of these ranges."""
    count, reached = 0, 0
    for start, end in sorted(ranges):
        count += max(0, end - max(start, reached))
        reached = max(reached, end)
    return count
