"""Windows under random operations on sequences: right by the oracle, or refused where something may be gone.

After each batch the logits of every sequence equal those of the float64 memory, which never evicts; an
operation is refused only where the plain model of `sequence_ledger` says that a cell is needed which a window
may have let go.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import llama_cpp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from library_logits import LoadedContext, Mode
from reference_memory import embeddings
from ropewalk.backend import context_plan
from sequence_ledger import SequenceLedger
from tiny_models import TinyModel, write_tiny_model
from windowed_contexts import (
    TRAIN_LENGTH,
    Row,
    largest_difference,
    opened,
    random_tokens,
    try_decode,
    windows_plan,
    with_plan,
)
from windowed_memory import WindowedMemory

pytestmark = pytest.mark.usefixtures("patched_library")

BOUND = 1e-3
SINKS = 2
N_CTX = 3840
N_SEQUENCES = 3
EVER = 10**6
REFUSED = -2

SEQUENCE = st.integers(0, N_SEQUENCES - 1)
SIZE = st.sampled_from([0, 1, 7, 33, 90])
BACK = st.sampled_from([1, 3, 15, 16, 40, 120, EVER])


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


Operation = Decode | CutBack | Discard | Copy | Keep

OPERATIONS = st.lists(
    st.one_of(
        st.builds(Decode, st.tuples(SIZE, SIZE, SIZE), st.integers(0, 99)),
        st.builds(Decode, st.tuples(SIZE, SIZE, SIZE), st.integers(0, 99)),
        st.builds(CutBack, SEQUENCE, BACK),
        st.builds(Discard, SEQUENCE, st.floats(0, 1), BACK, st.booleans()),
        st.builds(Copy, SEQUENCE, SEQUENCE, st.sampled_from([0, 0, 0, 1, 20, 150])),
        st.builds(Keep, SEQUENCE),
    ),
    min_size=4,
    max_size=9,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    path = tmp_path_factory.mktemp("properties") / "model.gguf"
    return write_tiny_model(
        path, n_layer=3, n_embd=32, n_head=2, n_head_kv=1, n_ff=32, train_length=TRAIN_LENGTH, seed=41
    )


class Trio:
    """The library's context, the oracle and the ledger, which go the same way."""

    def __init__(
        self, context: LoadedContext, model: TinyModel, windows: tuple[int, ...], unified: bool
    ) -> None:
        """All empty."""
        self.context, self.model, self.unified = context, model, unified
        self.oracle = WindowedMemory(model, windows, SINKS)
        self.ledger = SequenceLedger(windows, SINKS)

    def decode(self, operation: Decode) -> None:
        """One batch; a refusal is no error where a sequence of it is suspect."""
        rows = list(self._rows(operation))
        if not rows:
            return
        context_plan.last_error()
        status = try_decode(self.context, rows)
        batch = {row.sequence for row in rows}
        if status == REFUSED:
            assert context_plan.last_error() != ""
            assert batch & self.ledger.suspect, f"refused without a need: {operation}"
            for sequence in batch & self.ledger.suspect:
                self.cut_back(CutBack(sequence, EVER))
            return
        assert status == 0, f"llama_decode returned {status} for {operation}"
        values = llama_cpp.llama_get_logits(self.context.context)
        got = np.ctypeslib.as_array(values, shape=(len(rows), self.context.n_vocab))
        hidden = self.oracle.decode_rows(
            embeddings(self.model, [row.token for row in rows]),
            [row.position for row in rows],
            [row.sequence for row in rows],
        )
        assert largest_difference(got, self.oracle.logits(hidden)) <= BOUND, operation
        for sequence in sorted(batch):
            self.ledger.append(sequence, sum(row.sequence == sequence for row in rows))

    def cut_back(self, operation: CutBack) -> None:
        """Allowed wherever nothing that may be gone is needed then."""
        begin = max(0, self.ledger.end(operation.sequence) - operation.count)
        self._remove(operation.sequence, begin, EVER)

    def discard(self, operation: Discard) -> None:
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

    def copy(self, operation: Copy) -> None:
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

    def keep(self, operation: Keep) -> None:
        """In one stream: llama.cpp looks at no other."""
        if self.unified and self.ledger.end(operation.sequence):
            llama_cpp.llama_memory_seq_keep(self.context.memory, operation.sequence)
            self.oracle.keep(operation.sequence)
            self.ledger.keep(operation.sequence)

    def check_ends(self) -> None:
        """The library's last positions are the ledger's."""
        for sequence in range(N_SEQUENCES):
            last = llama_cpp.llama_memory_seq_pos_max(self.context.memory, sequence)
            assert last == self.ledger.end(sequence) - 1

    def _remove(self, sequence: int, begin: int, end: int) -> bool:
        done = bool(llama_cpp.llama_memory_seq_rm(self.context.memory, sequence, begin, min(end, EVER)))
        if done:
            self.oracle.remove(sequence, begin, end)
            self.ledger.remove(sequence, begin, end)
        else:
            lacks = self.ledger.would_lack(sequence, lambda position: not begin <= position < end)
            assert lacks or sequence in self.ledger.suspect, f"refused without a need: {begin} to {end}"
        return done

    def _rows(self, operation: Decode) -> Iterator[Row]:
        """In random order between sequences, in order within each."""
        rng = np.random.default_rng(operation.seed)
        order = rng.permutation(np.repeat(np.arange(N_SEQUENCES), operation.sizes))
        following = [self.ledger.end(sequence) for sequence in range(N_SEQUENCES)]
        for sequence, token in zip(order, random_tokens(len(order), operation.seed), strict=True):
            yield Row(token, following[sequence], int(sequence))
            following[sequence] += 1


@pytest.mark.parametrize("unified", [True, False], ids=["unified", "streams"])
@pytest.mark.parametrize("windows", [(16, 0, 5), (16, 5, 5)], ids=["one-dense", "all-windowed"])
def test_right_or_refused_for_a_reason(model: TinyModel, windows: tuple[int, ...], unified: bool) -> None:
    mode = Mode(ubatch_size=32, n_seq_max=N_SEQUENCES, kv_unified=unified)
    prepare = with_plan(windows_plan(windows, SINKS))

    @settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(OPERATIONS)
    def run(operations: list[Operation]) -> None:
        with opened(model.path, N_CTX, mode, prepare=prepare) as context:
            trio = Trio(context, model, windows, unified)
            trio.decode(Decode((290, 0, 0), seed=1))  # past one cache of 256 cells
            for operation in operations:
                _apply(trio, operation)
                trio.check_ends()
            trio.decode(Decode((1, 1, 1), seed=2))

    run()


def _apply(trio: Trio, operation: Operation) -> None:
    if isinstance(operation, Decode):
        trio.decode(operation)
    elif isinstance(operation, CutBack):
        trio.cut_back(operation)
    elif isinstance(operation, Discard):
        trio.discard(operation)
    elif isinstance(operation, Copy):
        trio.copy(operation)
    else:
        trio.keep(operation)
