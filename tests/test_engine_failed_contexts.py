"""Where the library fails to make a context, or weights cannot be loaded again: what was read is kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from llama_cpp import llama_cpp as capi

from ropewalk.backend.errors import BackendError, ContextError, MemoryShortageError, ModelFileError
from ropewalk.backend.plan_choice import PlanChoice
from ropewalk.engine import EngineOptions, worker
from ropewalk.engine.sampling import GREEDY
from ropewalk.engine.worker import Worker
from ropewalk_plan import ContextPlan

pytestmark = pytest.mark.usefixtures("patched_library")

TOKENS = [5 + i % 90 for i in range(100)]
OTHERS = TOKENS[:60] + [7] * 40
OPTIONS = EngineOptions(n_ctx=512, threads=1, n_sequences=3)


def nothing(*_told: object) -> None:
    """Progress nobody wants."""


@pytest.fixture
def made(tiny_llama: Path) -> Iterator[Worker]:
    made = Worker(lambda: False)
    made.load(tiny_llama, OPTIONS, nothing)
    yield made
    made._unload()


def fail_contexts(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """As where memory is short: the library returns a null pointer so many times."""
    make = capi.llama_init_from_model
    left = [times]

    def make_or_fail(*arguments: object) -> object:
        left[0] -= 1
        return None if left[0] >= 0 else make(*arguments)

    monkeypatch.setattr(capi, "llama_init_from_model", make_or_fail)


def answer(made: Worker, sequence: int) -> tuple[int, ...]:
    return made.generate(
        max_tokens=8, sampling=GREEDY, stop_at_eog=False, draft=0, sequence=sequence, on_piece=nothing
    ).token_ids


def test_a_context_that_cannot_be_made_leaves_the_old_one(
    made: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.prefill(OTHERS, nothing, 2)
    expected = answer(made, 2)
    made.prefill(TOKENS, nothing, 0)
    made.prefill(OTHERS, nothing, 2)
    fail_contexts(monkeypatch, 1)
    with pytest.raises(ContextError, match=r"no context of 1,024 tokens could be made"):
        made.resize(1024)

    assert made._loaded()[1].n_ctx == 512
    assert made.reusable([*TOKENS, 5], 0) == len(TOKENS)
    assert made.reusable([*OTHERS, 5], 2) == len(OTHERS)
    made.prefill(OTHERS, nothing, 2)
    assert answer(made, 2) == expected
    assert made.resize(1024).n_ctx == 1024
    assert made.reusable([*TOKENS, 5], 0) == len(TOKENS)


def test_where_not_even_the_old_context_can_be_made_resizing_helps(
    made: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.prefill(TOKENS, nothing, 0)
    fail_contexts(monkeypatch, 2)
    with pytest.raises(ContextError, match=r"no context of 1,024 tokens"):
        made.resize(1024)
    with pytest.raises(BackendError, match="there is no context"):
        made.prefill(TOKENS, nothing, 0)

    made.resize(256)
    assert made.prefill(TOKENS, nothing, 0).cached_tokens == 0


def test_weights_that_cannot_be_loaded_again_elsewhere_stay_where_they_were(
    made: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where fewer layers fit on a GPU beside a longer context."""
    made.prefill(TOKENS, nothing, 0)
    model, _ = made._loaded()
    n_layers = model.placed.gpu_layers
    load = worker._load_weights

    def load_or_fail(
        path: Path, options: EngineOptions, plan: PlanChoice, gpu_layers: int, on_progress: object
    ) -> object:
        if gpu_layers != n_layers:
            raise ModelFileError("the file is gone")
        return load(path, options, plan, gpu_layers, lambda _share: True)

    @dataclasses.dataclass(frozen=True)
    class Elsewhere:
        target: object = model
        placed: object = dataclasses.replace(model.placed, gpu_layers=n_layers + 1)

        def __enter__(self) -> Elsewhere:
            return self

        def __exit__(self, *_error: object) -> None:
            return None

    monkeypatch.setattr(worker, "_load_weights", load_or_fail)
    monkeypatch.setattr(worker, "placed_for", lambda *_asked: Elsewhere())
    monkeypatch.setattr(worker, "check_memory", nothing)
    monkeypatch.setattr(worker, "fits", lambda *_asked: True)
    with pytest.raises(ModelFileError):
        made.resize(1024)

    assert made._loaded()[0].placed.gpu_layers == n_layers
    assert made.reusable([*TOKENS, 5], 0) == len(TOKENS)


def test_a_comparison_that_is_refused_keeps_what_was_read(made: Worker, tiny_llama: Path) -> None:
    def refused(tokens: list[int], why: str) -> None:
        made.prefill(TOKENS, nothing, 1)
        with pytest.raises(BackendError, match=why):
            made.check_identity(tokens)
        assert made.reusable([*TOKENS, 5], 1) == len(TOKENS)

    refused(TOKENS, "has no context plan")
    plan = ContextPlan("windows", 64, 256, windows=(24, 0), sinks=3)
    made.load(tiny_llama, dataclasses.replace(OPTIONS, plan=plan), nothing)
    refused([], "no tokens to compare")
    refused([10**6], "is not a token")


@pytest.mark.parametrize("fails_at", [1, 2])
def test_a_comparison_that_fails_leaves_an_empty_context_and_the_plan(
    made: Worker, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    plan = ContextPlan("windows", 64, 256, windows=(24, 0), sinks=3)
    made.load(tiny_llama, dataclasses.replace(OPTIONS, plan=plan), nothing)
    make = capi.llama_init_from_model
    calls = [0]

    def make_or_fail(*arguments: object) -> object:
        calls[0] += 1
        return None if calls[0] == fails_at else make(*arguments)

    monkeypatch.setattr(capi, "llama_init_from_model", make_or_fail)
    with pytest.raises((ContextError, MemoryShortageError)):
        made.check_identity(TOKENS)

    stored = made._loaded()[0].plan()
    assert stored is not None
    assert stored[0].windows == (24, 0)
    assert made.prefill(TOKENS, nothing, 0).cached_tokens == 0
