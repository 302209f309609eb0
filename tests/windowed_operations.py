"""Operations on sequences under windows, done by the library, by the oracle and by a ledger, and compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import llama_cpp
import numpy as np

from abort_callback import AbortCallback
from library_logits import LoadedContext
from reference_memory import embeddings
from ropewalk.backend import context_plan
from sequence_ledger import SequenceLedger
from tiny_models import TinyModel
from windowed_contexts import Row, largest_difference, random_tokens, restored, saved, try_decode
from windowed_memory import WindowedMemory

BOUND = 1e-3
SINKS = 2
N_CTX = 3840
N_SEQUENCES = 3
EVER = 10**6
REFUSED, NO_SLOT, ABORTED = -2, 1, 2


@dataclass(frozen=True)
class Decode:
    """The next tokens of each sequence, in one batch, interleaved."""

    sizes: tuple[int, ...]
    seed: int


@dataclass(frozen=True)
class CutBack:
    """The last tokens are taken back."""

    sequence: int
    count: int


@dataclass(frozen=True)
class Discard:
    """Some tokens within the sequence are forgotten, and those after them move up: a context shift."""

    sequence: int
    begin: float
    count: int
    move_up: bool


@dataclass(frozen=True)
class Copy:
    """Another sequence, emptied before, begins as this one did, or as its first part."""

    source: int
    target: int
    back: int


@dataclass(frozen=True)
class Keep:
    """All others are forgotten."""

    sequence: int


@dataclass(frozen=True)
class Abort:
    """Next tokens, stopped by the abort callback after so many questions."""

    sizes: tuple[int, ...]
    seed: int
    after: int


@dataclass(frozen=True)
class Overfill:
    """More next tokens than a layer without a window has cells for."""

    sequence: int


@dataclass(frozen=True)
class Restore:
    """Another sequence, emptied before, is restored from this one's saved state."""

    source: int
    target: int


Operation: TypeAlias = Decode | CutBack | Discard | Copy | Keep | Abort | Overfill | Restore


class Trio:
    """The library's context, the oracle and the ledger, which go the same way."""

    def __init__(
        self, context: LoadedContext, model: TinyModel, windows: tuple[int, ...], unified: bool
    ) -> None:
        """All empty."""
        self.context, self.model, self.unified = context, model, unified
        self.oracle = WindowedMemory(model, windows, SINKS)
        self.ledger = SequenceLedger(windows, SINKS)
        self.dense = 0 in windows
        self._callback = AbortCallback(context)

    def apply(self, operation: Operation) -> None:
        """In the library, the oracle and the ledger; fails where they disagree."""
        if isinstance(operation, Decode):
            self._decode(operation)
        elif isinstance(operation, CutBack):
            self._cut_back(operation)
        elif isinstance(operation, Discard):
            self._discard(operation)
        elif isinstance(operation, Copy):
            self._copy(operation)
        elif isinstance(operation, Keep):
            self._keep(operation)
        elif isinstance(operation, Abort):
            self._abort(operation)
        elif isinstance(operation, Overfill):
            self._overfill(operation)
        else:
            self._restore(operation)
        for sequence in range(N_SEQUENCES):
            last = llama_cpp.llama_memory_seq_pos_max(self.context.memory, sequence)
            assert last == self.ledger.end(sequence) - 1

    def _decode(self, operation: Decode) -> None:
        """One batch; a refusal is no error where a sequence of it is suspect."""
        rows = list(self._rows(operation.sizes, operation.seed))
        if not rows or not all(self._fits(row.sequence, len(rows)) for row in rows):
            return
        context_plan.last_error()
        status = try_decode(self.context, rows)
        if status == REFUSED:
            self._refused(rows)
            return
        assert status == 0, f"llama_decode returned {status} for {operation}"
        values = llama_cpp.llama_get_logits(self.context.context)
        got = np.ctypeslib.as_array(values, shape=(len(rows), self.context.n_vocab)).copy()
        assert largest_difference(got, self._advance(rows)) <= BOUND, operation

    def _abort(self, operation: Abort) -> None:
        """What is left of the batch is whole ubatches, and the rest is as if it had never been."""
        rows = list(self._rows(operation.sizes, operation.seed))
        if not rows or not all(self._fits(row.sequence, len(rows)) for row in rows):
            return
        context_plan.last_error()
        status = self._callback.decode(rows, operation.after)
        if status == REFUSED:
            self._refused(rows)
            return
        assert status in (0, ABORTED)
        memory = self.context.memory
        left = [r for r in rows if r.position <= llama_cpp.llama_memory_seq_pos_max(memory, r.sequence)]
        if left:
            self._advance(left)

    def _overfill(self, operation: Overfill) -> None:
        """Refused as llama.cpp does, and nothing has changed."""
        room = self._room(operation.sequence)
        if self.dense and room + 1 <= N_CTX:
            sizes = [0] * N_SEQUENCES
            sizes[operation.sequence] = room + 1
            status = try_decode(self.context, list(self._rows(sizes, seed=0)))
            assert status == NO_SLOT or operation.sequence in self.ledger.suspect

    def _restore(self, operation: Restore) -> None:
        source, target = operation.source, operation.target
        if source == target or not self.ledger.end(source) or source in self.ledger.suspect:
            return
        data = saved(self.context, source)
        assert self._remove(target, 0, EVER), "emptying is never refused"
        if self._fits(target, self.ledger.end(source)):
            assert restored(self.context, data, target)
            self.oracle.duplicate(source, target)
            self.ledger.restore(source, target)

    def _refused(self, rows: list[Row]) -> None:
        """Rightly, with a sentence; the sequences begin anew."""
        suspect = {row.sequence for row in rows} & self.ledger.suspect
        assert suspect, "refused without a need"
        assert context_plan.last_error() != ""
        for sequence in suspect:
            assert self._remove(sequence, 0, EVER), "emptying is never refused"

    def _advance(self, rows: list[Row]) -> np.ndarray:
        """The oracle's logits, [rows, vocabulary]."""
        hidden = self.oracle.decode_rows(
            embeddings(self.model, [row.token for row in rows]),
            [row.position for row in rows],
            [row.sequence for row in rows],
        )
        for sequence in sorted({row.sequence for row in rows}):
            self.ledger.append(sequence, sum(row.sequence == sequence for row in rows))
        return self.oracle.logits(hidden)

    def _room(self, sequence: int) -> int:
        """Cells that a layer without a window has left."""
        if self.unified:
            return N_CTX - len(self.ledger.cells)
        return N_CTX // N_SEQUENCES - sum(sequence in cell.sequences for cell in self.ledger.cells)

    def _fits(self, sequence: int, count: int) -> bool:
        return not self.dense or count <= self._room(sequence)

    def _cut_back(self, operation: CutBack) -> None:
        """Allowed wherever nothing that may be gone is needed then."""
        begin = max(0, self.ledger.end(operation.sequence) - operation.count)
        self._remove(operation.sequence, begin, EVER)

    def _discard(self, operation: Discard) -> None:
        """Removal in the middle, and the move."""
        sequence, end = operation.sequence, self.ledger.end(operation.sequence)
        begin = int(operation.begin * end)
        until = min(begin + operation.count, end)
        if until >= end or self.ledger.shares(sequence, begin) or not self._remove(sequence, begin, until):
            return
        if operation.move_up:
            llama_cpp.llama_memory_seq_add(self.context.memory, sequence, until, -1, begin - until)
            self.oracle.shift(sequence, until, begin - until)
            self.ledger.shift(sequence, until, begin - until)

    def _copy(self, operation: Copy) -> None:
        """Whole where streams are apart: llama.cpp knows no other copy between them."""
        source, target = operation.source, operation.target
        if source == target or self.ledger.end(source) == 0:
            return
        assert self._remove(target, 0, EVER), "emptying is never refused"
        memory = self.context.memory
        if self.unified:
            end = max(1, self.ledger.end(source) - operation.back)
            llama_cpp.llama_memory_seq_cp(memory, source, target, 0, end)
            self.oracle.copy(source, target, end=end)
            self.ledger.copy(source, target, end)
        else:
            llama_cpp.llama_memory_seq_cp(memory, source, target, -1, -1)
            self.oracle.duplicate(source, target)
            self.ledger.duplicate(source, target)

    def _keep(self, operation: Keep) -> None:
        """In one stream: llama.cpp looks at no other."""
        if self.unified and self.ledger.end(operation.sequence):
            llama_cpp.llama_memory_seq_keep(self.context.memory, operation.sequence)
            self.oracle.keep(operation.sequence)
            self.ledger.keep(operation.sequence)

    def _remove(self, sequence: int, begin: int, end: int) -> bool:
        done = bool(llama_cpp.llama_memory_seq_rm(self.context.memory, sequence, begin, min(end, EVER)))
        if done:
            self.oracle.remove(sequence, begin, end)
            self.ledger.remove(sequence, begin, end)
        else:
            lacks = self.ledger.would_lack(sequence, lambda position: not begin <= position < end)
            assert lacks or sequence in self.ledger.suspect, f"refused without a need: {begin} to {end}"
        return done

    def _rows(self, sizes: Sequence[int], seed: int) -> Iterator[Row]:
        """In random order between sequences, in order within each."""
        order = np.random.default_rng(seed).permutation(np.repeat(np.arange(N_SEQUENCES), sizes))
        following = [self.ledger.end(sequence) for sequence in range(N_SEQUENCES)]
        for sequence, token in zip(order, random_tokens(len(order), seed), strict=True):
            yield Row(token, following[sequence], int(sequence))
            following[sequence] += 1
