"""What an order of tasks costs, counted by other means than the code that makes it."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_engine import FakeEngine
from retrieval_tasks import random_tasks
from ropewalk.engine import EngineOptions
from ropewalk.evaluation.retrieval import RetrievalTask
from ropewalk.evaluation.retrieval_order import common_tokens, steps, work_of
from ropewalk.evaluation.retrieval_run import context_length, run_tasks
from ropewalk_plan import ContextPlan, ScheduleStep

SCHEDULE = ContextPlan(
    "dynamic-ntk",
    100,
    400,
    schedule=tuple(ScheduleStep(n, (1.0, n / 100)) for n in (100, 150, 225, 400)),
)
STATIC = ContextPlan("pi", 100, 400, schedule=(ScheduleStep(400, (4.0, 4.0)),))
WINDOWS = ContextPlan("windows", 100, 400, windows=(32, 0))


def with_tokens(tokens: list[int], shared: int) -> RetrievalTask:
    (task,) = random_tasks([40], [0.5], 1)
    return dataclasses.replace(task, tokens=tuple(tokens), shared=shared)


# few different tokens, so that prompts have much in common
PROMPTS = st.lists(
    st.lists(st.integers(3, 5), min_size=2, max_size=12).flatmap(
        lambda tokens: st.integers(0, len(tokens) - 1).map(lambda shared: with_tokens(tokens, shared))
    ),
    min_size=1,
    max_size=8,
)


@given(st.lists(st.integers(0, 2)), st.lists(st.integers(0, 2)))
def test_common_beginnings_are_counted(first: list[int], second: list[int]) -> None:
    n = common_tokens(first, second)
    assert first[:n] == second[:n]
    assert first[n : n + 1] != second[n : n + 1] or n == min(len(first), len(second))


@given(PROMPTS)
def test_the_bound_is_the_number_of_different_beginnings(tasks: list[RetrievalTask]) -> None:
    beginnings = {task.tokens[:n] for task in tasks for n in range(1, len(task.tokens) + 1)}
    assert work_of(tasks).bound == len(beginnings)


@given(PROMPTS, st.booleans())
def test_no_order_costs_less_than_the_bound_or_more_than_one_by_one(
    tasks: list[RetrievalTask], branches: bool
) -> None:
    ordered = steps(tasks, None, branches=branches)
    assert sorted(map(id, tasks)) == sorted(id(step.task) for step in ordered)
    work = work_of(tasks, branches=branches)
    assert work.bound <= work.planned <= work.naive == sum(len(task.tokens) for task in tasks)
    assert work.planned == sum(step.to_compute for step in ordered)


@pytest.mark.parametrize("plan", [None, STATIC, SCHEDULE, WINDOWS], ids=lambda plan: plan and plan.method)
@pytest.mark.parametrize("n_sequences", [1, 2])
@pytest.mark.parametrize("lengths", [(90,), (60, 90, 120, 240)], ids=str)
def test_an_engine_computes_what_was_planned(
    plan: ContextPlan | None, n_sequences: int, lengths: tuple[int, ...]
) -> None:
    """And never has to hold more than the longest task."""
    tasks = random_tasks(lengths, [0.0, 0.3, 0.7, 1.0], 3)
    with FakeEngine(plan=plan, can_roll_back=plan is not WINDOWS) as engine:
        n_ctx = context_length(tasks)
        engine.load(Path("model.gguf"), EngineOptions(n_ctx=n_ctx, n_sequences=n_sequences))
        engine.tokenize(
            " ".join(map("".join, itertools.product("abcdefgh", repeat=3)))
        )  # which it then knows
        results = list(run_tasks(engine, tasks, method="x"))
    cells = sorted((task.length, task.depth, task.trial) for task in tasks)
    assert sorted((result.length, result.depth, result.trial) for result in results) == cells
    computed = sum(prefill.prompt_tokens - prefill.cached_tokens for prefill in engine.prefills)
    work = work_of(tasks, plan, branches=n_sequences == 2)
    assert sum(result.computed_tokens for result in results) == computed
    # where the text is cut back to a needle, its prompt's last token may be computed once more than planned
    assert work.planned <= computed <= work.planned + len(tasks)
    assert n_ctx == max(lengths) + tasks[0].answer_tokens


@pytest.mark.parametrize("branches", [True, False])
@given(
    lengths=st.lists(st.integers(200, 3000), min_size=1, max_size=3, unique=True),
    depths=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=5, unique=True),
    trials=st.integers(1, 3),
)
@settings(max_examples=25)
def test_a_common_haystack_is_computed_once(
    branches: bool, lengths: list[int], depths: list[float], trials: int
) -> None:
    """The issue's own count: the farthest needle, and each task's part from its needle on."""
    tasks = random_tasks(lengths, depths, trials)
    farthest = max(task.shared for task in tasks)
    tails = sum(len(task.tokens) - task.shared for task in tasks)
    assert work_of(tasks, STATIC, branches=branches).planned <= farthest + tails


def test_what_the_issue_asks_for() -> None:
    """1.79 times less for five depths and three trials of one length."""
    tasks = random_tasks([20_000], [0.1, 0.3, 0.5, 0.7, 0.9], 3)
    work = work_of(tasks)
    windows = 0.9 + 3 * (0.9 + 0.7 + 0.5 + 0.3 + 0.1)
    assert 15 / windows == pytest.approx(1.79, abs=0.01)
    assert work.naive / work.planned == pytest.approx(15 / windows, rel=0.01)
    assert work.bound / work.planned > 0.99


def test_under_a_schedule_only_texts_of_one_step_share() -> None:
    """Of 90, 95, 140 and 160 tokens, answered by 8 more: the steps end at 100, 150 and 225."""
    tasks = random_tasks([90, 95, 140, 160], [0.2, 0.8], 1)
    ordered = steps(tasks, SCHEDULE, branches=True)
    alone = [step.task.length for step in ordered if step.task.length == 95]
    assert len(alone) == 2, "their answers end in the step after the one they are read in"
    assert all(step.fresh for step in ordered if step.task.length == 95)
    for length in (90, 140, 160):
        fresh = [step.fresh for step in ordered if step.task.length == length]
        assert fresh == [True, False]
    assert all(step.to_compute == len(step.task.tokens) for step in ordered if step.fresh)
    fewer = work_of(tasks, STATIC)
    assert fewer.planned < work_of(tasks, SCHEDULE).planned < fewer.naive


def test_of_several_haystacks_each_is_computed_once() -> None:
    tasks = [task for seed in (0, 5) for task in random_tasks([300], [0.2, 0.5, 0.9], 2, seed=seed)]
    for branches in (True, False):
        work = work_of(tasks, branches=branches)
        assert work.bound / work.planned > 0.97
