"""Which positions each sequence must see, and which of them a windowed layer may have let go: a plain model.

A layer of window w may forget a cell of a sequence once the sequence's next token would not see it. Whether
and when it does is the library's affair; so an operation after which such a cell is needed again may be
refused, and every other operation must not be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

Select = Callable[[int], bool]


@dataclass
class Cell:
    """One token's key and value: where it stands, whose it is, and who may have lost it in which window."""

    position: int
    sequences: set[int]
    let_go: set[tuple[int, int]] = field(default_factory=set)


class SequenceLedger:
    """The cells of some sequences under windows."""

    def __init__(self, windows: Iterable[int], sinks: int) -> None:
        """No cells."""
        self._windows = tuple(sorted({window for window in windows if window}))
        self._sinks = sinks
        self.cells: list[Cell] = []
        self.suspect: set[int] = set()
        """Sequences that lack something, or did since they were last empty or cut back to be whole."""

    def end(self, sequence: int) -> int:
        """The position of the sequence's next token."""
        return 1 + max((cell.position for cell in self._of(sequence)), default=-1)

    def append(self, sequence: int, count: int) -> None:
        """The sequence's next tokens were computed; windows have moved on."""
        start = self.end(sequence)
        self.cells += [Cell(start + i, {sequence}) for i in range(count)]
        self._let_go(sequence)

    def lacks(self, sequence: int) -> bool:
        """Whether the sequence's next token would see a cell that may be gone."""
        end = self.end(sequence)
        return any(
            (window, sequence) in cell.let_go and self._sees(window, end, cell.position)
            for cell in self._of(sequence)
            for window in self._windows
        )

    def would_lack(self, sequence: int, keeps: Select) -> bool:
        """Whether it would if only the positions that `keeps` names were left."""
        rest = SequenceLedger(self._windows, self._sinks)
        rest.cells = [cell for cell in self._of(sequence) if keeps(cell.position)]
        return rest.lacks(sequence)

    def remove(self, sequence: int, begin: int, end: int) -> None:
        """The positions from `begin` to before `end` are forgotten."""
        was = self.end(sequence)
        for cell in self._of(sequence):
            if begin <= cell.position < end:
                self._leave(cell, sequence)
        self.cells = [cell for cell in self.cells if cell.sequences]
        self._judge(sequence, whole_again=end >= was)

    def copy(self, source: int, target: int, end: int) -> None:
        """`target`, which is empty, shares the cells of `source` before `end`."""
        for cell in self._of(source):
            if cell.position < end:
                cell.sequences.add(target)
                cell.let_go |= {(window, target) for window, of in cell.let_go if of == source}
        self._judge(target, whole_again=False)
        if source in self.suspect:
            self.suspect.add(target)

    def duplicate(self, source: int, target: int) -> None:
        """`target`, which is empty, gets cells of its own."""
        self.cells += [
            Cell(cell.position, {target}, {(window, target) for window, of in cell.let_go if of == source})
            for cell in self._of(source)
        ]
        if source in self.suspect:
            self.suspect.add(target)

    def restore(self, source: int, target: int) -> None:
        """`target`, which is empty, gets what a saved state of `source` holds: what its last token sees."""
        self.duplicate(source, target)
        last = self.end(target) - 1
        for cell in self._of(target):
            cell.let_go = {
                (window, target) for window in self._windows if not self._sees(window, last, cell.position)
            }
        self.suspect.discard(target)

    def keep(self, sequence: int) -> None:
        """All other sequences are forgotten."""
        for other in {s for cell in self.cells for s in cell.sequences} - {sequence}:
            self.remove(other, 0, self.end(other))

    def shift(self, sequence: int, begin: int, by: int) -> None:
        """The positions from `begin` on are moved; no other sequence shares them."""
        for cell in self._of(sequence):
            if cell.position >= begin:
                cell.position += by
        self._judge(sequence, whole_again=False)

    def shares(self, sequence: int, begin: int) -> bool:
        """Whether a position from `begin` on belongs to another sequence too."""
        return any(len(cell.sequences) > 1 and cell.position >= begin for cell in self._of(sequence))

    def _of(self, sequence: int) -> list[Cell]:
        return [cell for cell in self.cells if sequence in cell.sequences]

    def _sees(self, window: int, query: int, position: int) -> bool:
        return position < self._sinks or query - position < window

    def _let_go(self, sequence: int) -> None:
        end = self.end(sequence)
        for cell in self._of(sequence):
            cell.let_go |= {
                (window, sequence) for window in self._windows if not self._sees(window, end, cell.position)
            }

    def _leave(self, cell: Cell, sequence: int) -> None:
        cell.sequences.discard(sequence)
        cell.let_go = {(window, of) for window, of in cell.let_go if of != sequence}

    def _judge(self, sequence: int, *, whole_again: bool) -> None:
        if self.lacks(sequence):
            self.suspect.add(sequence)
        elif whole_again or self.end(sequence) == 0:
            self.suspect.discard(sequence)
