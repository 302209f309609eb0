"""Several sequences in one memory under every kind of plan: read together, copied, cut, moved and kept.

Oracle: float64 cells that belong to sequences. Measured: below 1e-4.
"""

from __future__ import annotations

import llama_cpp
import numpy as np
import pytest

from batches import decode_tokens
from library_logits import LoadedContext, Mode, loaded
from mode_plans import PLANS, Reservation, in_force, write_model
from reference_memory import ReferenceMemory, embeddings
from reference_transformer import Float64, Positions
from tiny_models import Architecture, TinyModel

pytestmark = pytest.mark.usefixtures("patched_library")

BOUND = 5e-4
RESERVED = 200
N_CTX = 768  # 256 for each of three sequences where they do not share it


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    arch: Architecture = request.param
    return write_model(tmp_path_factory.mktemp("sequences") / f"{arch}.gguf", arch)


class Both:
    """The same tokens through the library and through the oracle."""

    def __init__(self, model: TinyModel, context: LoadedContext, memory: ReferenceMemory) -> None:
        self._model, self._context, self._memory = model, context, memory
        self._random = np.random.default_rng(31)

    def read(self, *parts: tuple[int, int, int]) -> None:
        """Reads parts (sequence, first position, count), their tokens interleaved; checks every logit."""
        where = [(first + i, sequence) for sequence, first, count in parts for i in range(count)]
        where.sort()  # by position: sequences of different lengths take turns
        positions, sequences = [p for p, _ in where], [s for _, s in where]
        tokens = [int(token) for token in self._random.integers(3, 360, len(where))]
        got = decode_tokens(self._context, tokens, positions, sequences)
        hidden = self._memory.decode_rows(embeddings(self._model, tokens), positions, sequences)
        assert float(np.abs(got - self._memory.logits(hidden)).max()) <= BOUND

    def copy(self, source: int, target: int, *, instead: bool) -> None:
        """`instead` of what the target had: so it is where each sequence has cells of its own."""
        llama_cpp.llama_memory_seq_cp(self._context.memory, source, target, -1, -1)
        if instead:
            self._memory.remove(target, 0)
        self._memory.copy(source, target)

    def copy_part(self, source: int, target: int, begin: int, end: int) -> None:
        """What stands from `begin` to before `end`, where sequences share their cells."""
        llama_cpp.llama_memory_seq_cp(self._context.memory, source, target, begin, end)
        self._memory.copy(source, target, begin, end)

    def cut(self, sequence: int, begin: int, end: int) -> None:
        """Removes positions and closes the gap."""
        assert llama_cpp.llama_memory_seq_rm(self._context.memory, sequence, begin, end)
        llama_cpp.llama_memory_seq_add(self._context.memory, sequence, end, -1, begin - end)
        self._memory.remove(sequence, begin, end)
        self._memory.shift(sequence, end, begin - end)

    def remove(self, sequence: int, begin: int) -> None:
        assert llama_cpp.llama_memory_seq_rm(self._context.memory, sequence, begin, -1)
        self._memory.remove(sequence, begin)

    def keep(self, sequence: int) -> None:
        llama_cpp.llama_memory_seq_keep(self._context.memory, sequence)
        self._memory.keep(sequence)


@pytest.mark.parametrize("unified", [True, False], ids=["unified", "apart"])
@pytest.mark.parametrize("name", PLANS)
def test_sequences(model: TinyModel, name: str, unified: bool) -> None:
    plan = PLANS[name]
    under = Reservation(plan, RESERVED)
    mode = Mode(n_seq_max=3, kv_unified=unified, ubatch_size=64, threads=1)
    with loaded(model.path, N_CTX, mode, prepare=under.on_model) as context:
        under.in_context(context.context)
        both = Both(model, context, ReferenceMemory(model, in_force(model, plan, RESERVED)))
        both.read((0, 0, 100), (1, 0, 30), (2, 40, 25))
        both.read((1, 30, 50), (0, 100, 7), (2, 65, 1))
        both.copy(0, 2, instead=not unified)
        both.read((2, 107, 30), (0, 107, 20))
        both.remove(0, 90)
        both.read((0, 90, 60))
        both.cut(1, 20, 55)
        both.read((1, 45, 40), (2, 137, 10))
        both.cut(1, 5, 25)
        both.read((1, 65, 12))
        if unified:  # llama.cpp forgets sequences that share the cells, and no others
            both.keep(1)
            both.read((0, 0, 20), (2, 0, 5))
            both.copy_part(0, 2, 5, 15)
            both.read((2, 15, 20), (0, 20, 10))
        both.read((1, 77, 30))


@pytest.mark.parametrize("unified", [True, False], ids=["unified", "apart"])
def test_the_longest_sequence_sets_the_step_for_all(model: TinyModel, unified: bool) -> None:
    """Nothing reserved: the factors follow the longest, and the others' keys are turned with its own."""
    plan = PLANS["all"]
    mode = Mode(n_seq_max=3, kv_unified=unified, threads=1)
    with loaded(model.path, N_CTX, mode, prepare=Reservation(plan, 0).on_model) as context:
        longest = 0

        def now(layer: int, m: Float64) -> Positions:
            return in_force(model, plan, longest)(layer, m)

        both = Both(model, context, ReferenceMemory(model, now))
        for i, (first, count) in enumerate(((0, 50), (50, 40), (90, 45), (135, 60))):
            longest = first + count
            both.read((1, first, count), (0, 12 * i, 12), (2, 5 * i, 5))
