"""Whatever was read, copied, dropped, saved, restored and broken off before: a text's logits are its own.

Oracle: the text read at once, by the bare library in a context of its own.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import llama_cpp
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from library_logits import Float32, LoadedContext, Mode, loaded
from mode_plans import PLANS, Reservation
from ropewalk.backend.errors import PromptTooLongError, StoppedError
from ropewalk.engine.options import EngineOptions
from ropewalk.engine.results import SavedState
from ropewalk.engine.sampling import GREEDY
from ropewalk.engine.worker import Worker
from ropewalk_plan import ContextPlan
from tiny_gemma3 import write_tiny_gemma3
from tiny_models import write_tiny_model
from tiny_other_memories import write_tiny_lfm2, write_tiny_mamba

pytestmark = pytest.mark.usefixtures("patched_library")

N_CTX = 900
OPTIONS = EngineOptions(
    n_ctx=N_CTX, threads=1, gpu_layers=0, batch_size=64, ubatch_size=16, kv_type="f32", n_sequences=3
)
BOUND = 2e-3
WINDOWED = ContextPlan("windows", 64, 256, windows=(24, 0, 100), sinks=3)
NARROW = ContextPlan("windows", 64, 256, windows=(24, 24, 24), sinks=2)
PLANS_TRIED: dict[str, ContextPlan | None] = {
    "none": None,
    "mapped": dataclasses.replace(PLANS["periodic"], logn_length=64),
    "windows": WINDOWED,
    "narrow": NARROW,
}
BASES = [[int(t) for t in np.random.default_rng(70 + i).integers(3, 350, 400)] for i in range(3)]

sequences = st.integers(0, 2)
stops = st.none() | st.integers(0, 400)  # after so many questions whether to stop


class Schedule(RuleBasedStateMachine):
    """Requests to a worker with three sequences."""

    model: Path
    plan: ContextPlan | None

    def __init__(self) -> None:
        super().__init__()
        self._resources = ExitStack()
        self._left: int | None = None
        self._folder = Path(self._resources.enter_context(tempfile.TemporaryDirectory()))
        self._saved: list[tuple[Path, SavedState]] = []
        self._oracle: LoadedContext = self._resources.enter_context(
            loaded(self.model, 1024, Mode(ubatch_size=16), Reservation(self.plan, 0).on_model)
        )
        self._worker = Worker(self._should_stop)
        self._worker.load(self.model, dataclasses.replace(OPTIONS, plan=self.plan), lambda _share: None)

    def teardown(self) -> None:
        self._worker._unload()
        self._resources.close()

    def _should_stop(self) -> bool:
        if self._left is None:
            return False
        self._left -= 1
        return self._left < 0

    def _expected(self, tokens: list[int]) -> Float32:
        llama_cpp.llama_memory_clear(self._oracle.memory, True)
        return self._oracle.decode(tokens)

    def _tokens(self, sequence: int) -> list[int]:
        return self._worker._sequences[sequence].tokens

    @rule(
        sequence=sequences,
        base=st.integers(0, 2),
        length=st.integers(1, 400),
        edit=st.none() | st.integers(0, 399),
        stop=stops,
    )
    def read(self, sequence: int, base: int, length: int, edit: int | None, stop: int | None) -> None:
        text = BASES[base][:length]
        if edit is not None and edit < length:
            text[edit] = 7
        self._left = stop
        promised = self._worker.reusable(text, sequence)
        try:
            result = self._worker.prefill(text, lambda _done, _total: None, sequence)
        except PromptTooLongError:
            assert sum(len(self._tokens(i)) for i in range(3) if i != sequence) + length > N_CTX
            return
        finally:
            self._left = None
        assert result.cached_tokens >= promised
        if result.cancelled:
            assert self._tokens(sequence) == text[: len(self._tokens(sequence))]
        else:
            got = self._worker._sequences[sequence].context.logits()[-1]
            assert np.abs(got - self._expected(text)[-1]).max() <= BOUND

    @rule(sequence=sequences, count=st.integers(1, 20), stop=stops)
    def answer(self, sequence: int, count: int, stop: int | None) -> None:
        if not self._worker._sequences[sequence]._was_read:
            return
        before = list(self._tokens(sequence))
        self._left = stop
        result = self._worker.generate(
            max_tokens=count,
            sampling=GREEDY,
            stop_at_eog=False,
            draft=None,
            sequence=sequence,
            on_piece=lambda _piece: None,
        )
        self._left = None
        if result.token_ids:
            logits = self._expected([*before, *result.token_ids])[len(before) - 1 : -1]
            chosen = logits[np.arange(len(result.token_ids)), list(result.token_ids)]
            assert (chosen >= logits.max(axis=1) - BOUND).all()

    @rule(source=sequences, copied_to=sequences)
    def copy(self, source: int, copied_to: int) -> None:
        tokens = list(self._tokens(source))
        assert self._worker.copy_sequence(source, copied_to) == len(tokens)
        assert self._tokens(copied_to) == self._tokens(source) == tokens

    @rule(sequence=sequences)
    def drop(self, sequence: int) -> None:
        self._worker.drop_sequence(sequence)
        assert self._tokens(sequence) == []

    @rule(sequence=sequences, stop=stops)
    def save(self, sequence: int, stop: int | None) -> None:
        tokens = list(self._tokens(sequence))
        path = self._folder / str(len(self._saved))
        self._left = stop
        try:
            if tokens:
                saved = self._worker.save_state(path, sequence, lambda _share: None)
                assert list(saved.tokens) == tokens
                self._saved.append((path, saved))
        except StoppedError:
            assert not path.exists()
        finally:
            self._left = None
        assert self._tokens(sequence) == tokens

    @precondition(lambda self: self._saved)
    @rule(sequence=sequences, which=st.integers(0, 10), stop=stops)
    def restore(self, sequence: int, which: int, stop: int | None) -> None:
        path, saved = self._saved[which % len(self._saved)]
        self._left = stop
        try:
            held = self._worker.restore_state(path, saved, sequence, lambda _share: None)
            assert held == len(saved.tokens)
            assert self._tokens(sequence) == list(saved.tokens)
        except (StoppedError, PromptTooLongError):
            assert self._tokens(sequence) == []
        finally:
            self._left = None

    @invariant()
    def what_is_said_to_be_held_is_held(self) -> None:
        context = self._worker._sequences[0].context
        assert [context.length_of(i) for i in range(3)] == [len(self._tokens(i)) for i in range(3)]
        assert 0 <= context.room <= N_CTX


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield write_tiny_model(
        tmp_path_factory.mktemp("schedules") / "model.gguf",
        n_layer=3,
        n_embd=128,
        n_head=4,
        n_head_kv=2,
        head_dim=64,
    ).path


@pytest.mark.parametrize("name", PLANS_TRIED)
def test_a_text_is_read_as_if_it_were_alone(model: Path, name: str) -> None:
    run(model, PLANS_TRIED[name])


@pytest.mark.parametrize(
    "write", [write_tiny_gemma3, write_tiny_mamba, write_tiny_lfm2], ids=["sliding", "recurrent", "hybrid"]
)
def test_memories_that_cannot_go_back_anywhere(tmp_path: Path, write: Callable[[Path], object]) -> None:
    """A restored sliding layer lacks what it has left behind; a recurrent state is the last one alone."""
    write(tmp_path / "model.gguf")
    run(tmp_path / "model.gguf", None)


def run(model: Path, plan: ContextPlan | None) -> None:
    """Random schedules."""
    machine = type("Schedule", (Schedule,), {"model": model, "plan": plan})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=8, stateful_step_count=25, deadline=None)
    )
