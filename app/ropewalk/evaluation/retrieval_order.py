"""In which order tasks are run, so that what their prompts have in common is computed once.

The trunk is what several prompts begin with: the filler up to a needle. With a second sequence, each task
goes on from a copy of the trunk where its own part begins, and the trunk then grows on to the next task's:
tasks are run from the shortest shared part to the longest. With one sequence, the text is cut back to where
the next task departs from it: from the longest to the shortest. Either way each token is computed once for
all tasks whose prompts have it, and everything before it, in common.

Under a schedule keys depend on the length that the text is to have, so only tasks share them that are read
and answered under the same step. One whose answer passes into the next step shares with none.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ropewalk.evaluation.retrieval import RetrievalTask
from ropewalk_plan import ContextPlan


@dataclass(frozen=True)
class Step:
    """One task in its turn.

    Attributes:
        task: what is run.
        fresh: whether everything that is held is forgotten before it.
        to_compute: tokens of its prompt that are not held by then.
    """

    task: RetrievalTask
    fresh: bool
    to_compute: int


@dataclass(frozen=True)
class Work:
    """What some tasks cost, in prompt tokens computed.

    Attributes:
        naive: each prompt read by itself.
        planned: in the order of `steps`.
        bound: what no order can avoid, as each different beginning of a prompt must be computed once.
    """

    naive: int
    planned: int
    bound: int


def steps(tasks: Sequence[RetrievalTask], plan: ContextPlan | None, *, branches: bool) -> list[Step]:
    """The order in which tasks cost least.

    Args:
        tasks: in any order.
        plan: what they are run under.
        branches: whether there is a second sequence for copies.
    """
    ordered: list[Step] = []
    for group in _groups(tasks, plan):
        group.sort(key=lambda task: task.tokens[: task.shared], reverse=not branches)
        before: RetrievalTask | None = None
        for task in group:
            held = 0 if before is None else _held(task, before, plan, branches=branches)
            ordered.append(Step(task, before is None, len(task.tokens) - held))
            before = task
    return ordered


def work_of(
    tasks: Sequence[RetrievalTask], plan: ContextPlan | None = None, *, branches: bool = True
) -> Work:
    """What tasks cost one by one, in the order of `steps`, and at the least."""
    return Work(
        naive=sum(len(task.tokens) for task in tasks),
        planned=sum(step.to_compute for step in steps(tasks, plan, branches=branches)),
        bound=sum(_distinct_beginnings(group) for group in _groups(tasks, plan)),
    )


def common_tokens(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two texts begin with in common."""
    shorter = min(len(first), len(second))
    differs = np.asarray(first[:shorter]) != np.asarray(second[:shorter])
    return int(np.argmax(differs)) if differs.any() else shorter


def _held(task: RetrievalTask, before: RetrievalTask, plan: ContextPlan | None, *, branches: bool) -> int:
    """Tokens of a task's prompt that are held after the task before it."""
    if branches:  # the trunk holds the shared part of the task before
        trunk = before.tokens[: before.shared]
        held = common_tokens(trunk, task.tokens)
        return held if held == len(trunk) or _can_go_back(plan) else 0
    return common_tokens(before.tokens, task.tokens) if _can_go_back(plan) else 0


def _can_go_back(plan: ContextPlan | None) -> bool:
    """Whether a text can be cut back to an earlier part of it, which windows have forgotten."""
    return plan is None or not any(plan.windows)


def _groups(tasks: Sequence[RetrievalTask], plan: ContextPlan | None) -> list[list[RetrievalTask]]:
    """Tasks that may share what they compute."""
    if plan is None or len(plan.schedule) < 2:
        return [list(tasks)] if tasks else []
    lengths = [step.up_to_length for step in plan.schedule]
    groups: dict[int, list[RetrievalTask]] = {}
    alone: list[list[RetrievalTask]] = []
    for task in tasks:
        first, last = (_step_of(lengths, n) for n in (len(task.tokens), _full_length(task)))
        if first == last:
            groups.setdefault(first, []).append(task)
        else:
            alone.append([task])
    return [*groups.values(), *alone]


def _step_of(lengths: Sequence[int], n_tokens: int) -> int:
    return min(bisect_left(lengths, n_tokens), len(lengths) - 1)


def _full_length(task: RetrievalTask) -> int:
    return len(task.tokens) + task.answer_tokens


def _distinct_beginnings(tasks: Sequence[RetrievalTask]) -> int:
    prompts = sorted(task.tokens for task in tasks)
    common = sum(common_tokens(first, second) for first, second in pairwise(prompts))
    return sum(map(len, prompts)) - common
