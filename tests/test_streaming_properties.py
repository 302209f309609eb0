"""A stream under random operations: read on, cut back, aborted, saved and restored, begun anew.

Whatever was before, the logits are those of the rule in float64 over the text as it is then. A cut is refused
only where the ledger says that a window may have let go of what is needed again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import llama_cpp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from abort_callback import AbortCallback
from library_logits import LoadedContext, Mode
from sequence_ledger import SequenceLedger
from streaming_transformer import Stream, streaming_logits
from tiny_models import TinyModel, write_tiny_model
from windowed_contexts import (
    in_sequence,
    largest_difference,
    opened,
    random_tokens,
    restored,
    saved,
    streaming_plan,
    with_plan,
)

pytestmark = pytest.mark.usefixtures("patched_library")

BOUND = 1e-3
N_CTX = 512
FACTORS = tuple(float(f) for f in np.float32(4.0 ** (np.arange(8) / 7)))
STREAM = Stream((64, 72), 3, FACTORS)
ABORTED = 2


@dataclass(frozen=True)
class Read:
    """The next tokens."""

    count: int
    seed: int


@dataclass(frozen=True)
class CutBack:
    """The last tokens are taken back."""

    count: int


@dataclass(frozen=True)
class Abort:
    """The next tokens, stopped by the abort callback after so many questions."""

    count: int
    seed: int
    after: int


@dataclass(frozen=True)
class SaveAndRestore:
    """Into the emptied context; what was read since is forgotten."""

    read_on: int


Operation: TypeAlias = Read | CutBack | Abort | SaveAndRestore

COUNT = st.sampled_from([40, 100, 16, 3, 1])
SEED = st.integers(0, 99)
OPERATIONS = st.lists(
    st.one_of(
        st.builds(Read, COUNT, SEED),
        st.builds(CutBack, st.sampled_from([1, 2, 5, 30, 150, N_CTX])),
        st.builds(Abort, COUNT, SEED, st.integers(0, 900)),
        st.builds(SaveAndRestore, COUNT),
    ),
    min_size=5,
    max_size=10,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    path = tmp_path_factory.mktemp("properties") / "model.gguf"
    return write_tiny_model(path, n_layer=2, n_embd=32, n_head=2, n_head_kv=1, n_ff=32, seed=141)


class Text:
    """The stream in the library, and the text that it stands for."""

    def __init__(self, context: LoadedContext, model: TinyModel) -> None:
        """Nothing read."""
        self.context, self.model = context, model
        self.tokens: list[int] = []
        self.ledger = SequenceLedger(STREAM.windows, STREAM.sinks)
        self.callback = AbortCallback(context)

    def apply(self, operation: Operation) -> None:
        """Fails where the library and the rule disagree."""
        if isinstance(operation, Read):
            self._read(random_tokens(operation.count, operation.seed))
        elif isinstance(operation, CutBack):
            self._cut_to(max(0, len(self.tokens) - operation.count))
        elif isinstance(operation, Abort):
            tokens = random_tokens(operation.count, operation.seed)
            rows = in_sequence(tokens, len(self.tokens))
            assert self.callback.decode(rows, operation.after) in (0, ABORTED)
            end = llama_cpp.llama_memory_seq_pos_max(self.context.memory, 0) + 1
            self._grow(tokens[: end - len(self.tokens)])
        elif self.tokens:
            data = saved(self.context)
            then = list(self.tokens)
            self._read(random_tokens(operation.read_on, seed=0))
            llama_cpp.llama_memory_clear(self.context.memory, True)
            assert restored(self.context, data)
            self.tokens = then
            self.ledger.remove(0, 0, self.ledger.end(0))
            self.ledger.append(0, len(then))
        assert llama_cpp.llama_memory_seq_pos_max(self.context.memory, 0) == len(self.tokens) - 1

    def _read(self, tokens: list[int]) -> None:
        start = len(self.tokens)
        got = self.context.decode(tokens, start)
        self._grow(tokens)
        want = streaming_logits(self.model, self.tokens, STREAM)[start:]
        assert largest_difference(got, want) <= BOUND

    def _grow(self, tokens: list[int]) -> None:
        self.tokens += tokens
        self.ledger.append(0, len(tokens))

    def _cut_to(self, begin: int) -> None:
        if llama_cpp.llama_memory_seq_rm(self.context.memory, 0, begin, -1):
            del self.tokens[begin:]
            self.ledger.remove(0, begin, N_CTX * 100)
        else:
            assert self.ledger.would_lack(0, lambda position: position < begin), "refused without a need"


@pytest.mark.parametrize("ubatch_size", [16, 300])
def test_the_text_as_it_is(model: TinyModel, ubatch_size: int) -> None:
    prepare = with_plan(streaming_plan(STREAM))

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(OPERATIONS)
    def run(operations: list[Operation]) -> None:
        with opened(model.path, N_CTX, Mode(ubatch_size=ubatch_size), prepare) as context:
            text = Text(context, model)
            text.apply(Read(300, seed=1))
            for operation in operations:
                text.apply(operation)
            text.apply(Read(30, seed=2))

    run()
