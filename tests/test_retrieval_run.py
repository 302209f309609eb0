"""Answers of tasks that share what they compute, against each task read by itself into an empty context."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import mode_plans
from retrieval_tasks import random_tasks
from ropewalk.engine import Engine, EngineError, EngineOptions, PromptTooLong
from ropewalk.evaluation.retrieval import RetrievalTask
from ropewalk.evaluation.retrieval_order import work_of
from ropewalk.evaluation.retrieval_run import context_length, run_tasks
from ropewalk_plan import ContextPlan, ScheduleStep
from tiny_gemma3 import write_tiny_gemma3
from tiny_other_memories import write_tiny_lfm2, write_tiny_mamba

pytestmark = pytest.mark.usefixtures("patched_library")

# 90 tokens are read in one step of the schedule (up to 96), and answered in the next
TASKS = random_tasks([50, 90, 140, 230], [0.0, 0.4, 0.9], 2)
N_CTX = context_length(TASKS)

_FACTORS = ScheduleStep(mode_plans.TARGET_LENGTH, (1.0,) * 8 + (4.0,) * (mode_plans.N_PAIRS - 8), 1.1)
PLANS: dict[str, ContextPlan | None] = {
    "none": None,
    **mode_plans.PLANS,
    "windows": ContextPlan("windows", 64, 256, windows=(40, 0), sinks=2),
    "windows-schedule": ContextPlan(
        "windows", 64, 256, schedule=mode_plans.PLANS["schedule"].schedule, windows=(40, 24), sinks=2
    ),
    "streaming": ContextPlan(
        "streaming", 64, 256, schedule=(_FACTORS,), windows=(48, 48), sinks=2, streaming=True
    ),
}

OTHER_MEMORIES = ("sliding", "recurrent", "hybrid")
ONE_SEQUENCE = ("none", "schedule", "windows", "streaming")
"""Of a stream there is only one; others are cut back from task to task, or read anew."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mode_plans.write_model(tmp_path_factory.mktemp("retrieval") / "model.gguf", "llama").path


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine.start() as started:
        yield started


def options(n_sequences: int, plan: ContextPlan | None, kv_type: str = "f32") -> EngineOptions:
    return EngineOptions(
        n_ctx=N_CTX,
        threads=1,
        kv_type=kv_type,
        plan=plan,
        n_sequences=n_sequences,
        batch_size=32,
        ubatch_size=32,
    )


def naive_answer(engine: Engine, task: RetrievalTask) -> str:
    """As the test was run before there was anything to share."""
    engine.drop_sequence(0)
    engine.prefill(task.tokens)
    return "".join(piece.text for piece in engine.generate(task.answer_tokens))


@pytest.mark.parametrize(
    ("name", "n_sequences"),
    [*((name, 2) for name in PLANS if name != "streaming"), *((name, 1) for name in ONE_SEQUENCE)],
)
def test_answers_are_those_of_each_task_alone(
    engine: Engine, model: Path, name: str, n_sequences: int
) -> None:
    plan = PLANS[name]
    engine.load(model, options(1, plan))
    alone = {id(task): naive_answer(engine, task) for task in TASKS}
    assert len(set(alone.values())) > len(TASKS) // 2, "the prompts must tell"

    engine.load(model, options(n_sequences, plan))
    results = list(run_tasks(engine, TASKS, method=name))
    answers = {(result.length, result.depth, result.trial): result.answer for result in results}
    assert answers == {(task.length, task.depth, task.trial): alone[id(task)] for task in TASKS}
    assert {result.method for result in results} == {name}

    work = work_of(TASKS, plan, branches=n_sequences == 2)
    computed = sum(result.computed_tokens for result in results)
    assert computed <= min(work.planned + len(TASKS), work.naive)
    if n_sequences == 2:
        assert work.planned <= computed < work.naive


@pytest.mark.parametrize(
    "write",
    [lambda path: write_tiny_gemma3(path).path, write_tiny_mamba, write_tiny_lfm2],
    ids=OTHER_MEMORIES,
)
def test_other_memories_are_copied_too(engine: Engine, tmp_path: Path, write: Callable[[Path], Path]) -> None:
    """Windows of the model's own, and states that cannot be cut back."""
    model = write(tmp_path / "model.gguf")
    engine.load(model, options(1, None))
    alone = [naive_answer(engine, task) for task in TASKS]
    engine.load(model, options(2, None))
    results = list(run_tasks(engine, TASKS, method="none"))
    by_cell = {(result.length, result.depth, result.trial): result for result in results}
    assert [by_cell[task.length, task.depth, task.trial].answer for task in TASKS] == alone
    assert sum(result.computed_tokens for result in results) == work_of(TASKS).planned


@pytest.mark.parametrize("name", ["factors", "schedule"])
def test_quantized_keys_are_shared_too(engine: Engine, model: Path, name: str) -> None:
    engine.load(model, options(1, PLANS[name], "q8_0"))
    alone = [naive_answer(engine, task) for task in TASKS]
    engine.load(model, options(2, PLANS[name], "q8_0"))
    by_cell = {
        (result.length, result.depth, result.trial): result.answer
        for result in run_tasks(engine, TASKS, method=name)
    }
    assert [by_cell[task.length, task.depth, task.trial] for task in TASKS] == alone


def test_what_was_held_before_does_not_matter(engine: Engine, model: Path) -> None:
    engine.load(model, options(2, PLANS["schedule"]))
    first = [result.answer for result in run_tasks(engine, TASKS, method="x")]
    engine.drop_sequence(1)
    engine.prefill(random_tasks([200], [0.5], 1, seed=9)[0].tokens, sequence=0)
    assert [result.answer for result in run_tasks(engine, TASKS, method="x")] == first


def test_progress_rises_to_the_end_of_what_was_planned(engine: Engine, model: Path) -> None:
    engine.load(model, options(2, None))
    told: list[tuple[int, int]] = []
    for _ in run_tasks(
        engine, TASKS, method="none", on_progress=lambda done, total, _task: told.append((done, total))
    ):
        pass
    planned = work_of(TASKS).planned
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[0][0] == 0
    assert told[-1] == (planned, planned)
    assert {total for _, total in told} == {planned}


def test_a_stopped_run_goes_on_with_the_tasks_that_are_left(engine: Engine, model: Path) -> None:
    engine.load(model, options(2, PLANS["windows"]))
    whole = list(run_tasks(engine, TASKS, method="x"))
    done = list(itertools.islice(run_tasks(engine, TASKS, method="x"), 5))
    cells = {(result.length, result.depth, result.trial) for result in done}
    left = [task for task in TASKS if (task.length, task.depth, task.trial) not in cells]
    rest = list(run_tasks(engine, left, method="x"))
    answers = [
        sorted((result.length, result.depth, result.trial, result.answer) for result in results)
        for results in (whole, [*done, *rest])
    ]
    assert answers[0] == answers[1]


def test_too_short_a_context_is_told(engine: Engine, model: Path) -> None:
    engine.load(model, options(2, None))
    engine.resize(200)
    with pytest.raises(PromptTooLong):
        list(run_tasks(engine, TASKS, method="x"))


def test_an_engine_without_a_model_is_told() -> None:
    with Engine.start() as engine, pytest.raises(EngineError, match="load"):
        list(run_tasks(engine, TASKS, method="x"))
