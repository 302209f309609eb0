"""What a budget is asked for before an answer: all that it will read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from fake_engine import FakeEngine
from ropewalk.engine import EngineOptions
from ropewalk.evaluation.choose_evidence import Clock, Material, MeasuringEvidence
from ropewalk.evaluation.labelled_plan import PLAIN, LabelledPlan
from ropewalk.evaluation.passkey import passkey_tasks
from ropewalk.evaluation.retrieval_run import work_of

DEPTHS = (0.5, 0.6, 0.7, 0.8, 0.9)
SECONDS_PER_TOKEN = 0.01


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    with FakeEngine(plan=None) as engine:
        engine.load(Path("model.gguf"), EngineOptions(n_ctx=2000, n_sequences=2))
        yield engine


def evidence(engine: FakeEngine, seconds: float) -> tuple[MeasuringEvidence, Clock]:
    tasks = tuple(passkey_tasks(engine, [600], DEPTHS, 1))
    assert work_of(tasks).planned < 0.6 * work_of(tasks).naive
    clock = Clock(seconds, [(100, 100 * SECONDS_PER_TOKEN)])
    plain = LabelledPlan(PLAIN, PLAIN, {}, None)
    material = Material({PLAIN: plain}, PLAIN, (), {}, tasks, (), lambda plan: None)

    def step(name: str) -> nullcontext[object]:
        return nullcontext(lambda done, total: None)

    found = MeasuringEvidence(
        [],
        engine=engine,
        material=material,
        add=lambda row: None,
        step=step,  # type: ignore[arg-type]  # which tells nobody
        clock=clock,
    )
    return found, clock


def test_the_first_answer_reads_a_whole_prompt_and_those_after_it_less(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ropewalk.evaluation.choose_evidence.now", lambda: 0.0)
    whole = 600 * SECONDS_PER_TOKEN
    found, clock = evidence(engine, 0.7 * whole)
    assert found.answer(PLAIN, 0) is None
    assert clock.refused == "another answer of none at 600 tokens"
    assert not engine.prefills

    found, clock = evidence(engine, 1.1 * whole)
    assert found.answer(PLAIN, 0) is not None
    clock.budget = 0.7 * whole
    assert found.answer(PLAIN, 1) is not None
