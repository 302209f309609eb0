"""Running retrieval tasks on a loaded model; what their prompts have in common is computed once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from ropewalk.engine import Cancelled, Engine, EngineDied, EngineError
from ropewalk.evaluation.retrieval import RetrievalResult, RetrievalTask, is_hit
from ropewalk.evaluation.retrieval_order import Step, Work, steps, work_of

__all__ = ["Work", "context_length", "planned_steps", "run_tasks", "work_of"]

TaskProgress = Callable[[int, int, RetrievalTask], None]
"""Told the tokens computed of all tasks, how many there are to compute in all, and the task at work."""

_TRUNK, _BRANCH = 0, 1


def context_length(tasks: Sequence[RetrievalTask]) -> int:
    """Tokens that a context must hold to run any of the tasks: the trunk is never longer than its task."""
    return max(len(task.tokens) + task.answer_tokens for task in tasks)


def run_tasks(
    engine: Engine,
    tasks: Sequence[RetrievalTask],
    *,
    method: str,
    on_progress: TaskProgress | None = None,
) -> Iterator[RetrievalResult]:
    """Ask every task's question, greedily, in the order that costs least.

    A context of two sequences holds the trunk in the first and a copy of it, with a task's own part, in the
    second; one of a single sequence is cut back from task to task where the plan allows it, and reads anew
    where it does not. What was held before is forgotten.

    Args:
        engine: a loaded model whose context has at least `context_length(tasks)` tokens.
        tasks: what to ask.
        method: the label of the plan in force, for the results.
        on_progress: told of every batch.

    Yields:
        Each task's result as soon as it is there.

    Raises:
        PromptTooLong: the context is too short.
        Cancelled: by `Engine.cancel`.
    """
    ordered = planned_steps(engine, tasks)
    run = _Run(engine, _has_branch(engine), sum(step.to_compute for step in ordered), on_progress)
    for step in ordered:
        start = time.perf_counter()
        answer, computed = run.ask(step)
        task = step.task
        yield RetrievalResult(
            method=method,
            test=task.test,
            length=task.length,
            depth=task.depth,
            trial=task.trial,
            expected=task.expected,
            answer=answer,
            hit=is_hit(task, answer),
            prompt_tokens=len(task.tokens),
            distance=task.distance,
            computed_tokens=computed,
            seconds=time.perf_counter() - start,
        )


def planned_steps(engine: Engine, tasks: Sequence[RetrievalTask]) -> list[Step]:
    """The order in which `run_tasks` asks, and what each task costs; what the branch held is forgotten."""
    plan = engine.model.plan if engine.model is not None else None
    return steps(tasks, plan, branches=_has_branch(engine))


class _Run:
    """Tasks one after the other on one engine."""

    def __init__(
        self, engine: Engine, branches: bool, to_compute: int, on_progress: TaskProgress | None
    ) -> None:
        self._engine, self._branches = engine, branches
        self._to_compute, self._on_progress = to_compute, on_progress
        self._trunk: tuple[int, ...] = ()
        self._done = 0

    def ask(self, step: Step) -> tuple[str, int]:
        """The answer, and the prompt tokens computed for it."""
        task = step.task
        if step.fresh:
            self._forget()
        if self._branches:
            computed = self._grow_trunk(step) + self._read(step, task.tokens, _BRANCH)
        else:
            computed = self._read(step, task.tokens, _TRUNK)
        sequence = _BRANCH if self._branches else _TRUNK
        answer = "".join(piece.text for piece in self._engine.generate(task.answer_tokens, sequence=sequence))
        self._done += step.to_compute
        return answer, computed

    def _grow_trunk(self, step: Step) -> int:
        """Has the trunk hold the task's shared part, and the branch a copy of it; returns tokens computed."""
        task = step.task
        self._engine.drop_sequence(_BRANCH)  # which would take room beside the trunk
        stem = task.tokens[: task.shared]
        computed = 0
        if stem != self._trunk:
            self._trunk = ()
            if stem:
                computed = self._read(step, stem, _TRUNK)
            else:
                self._engine.drop_sequence(_TRUNK)
            self._trunk = stem
        self._engine.copy_sequence(_TRUNK, _BRANCH)
        return computed

    def _read(self, step: Step, tokens: Sequence[int], sequence: int) -> int:
        task = step.task
        before = len(task.tokens) - step.to_compute

        def tell(held: int, _total: int) -> None:
            if self._on_progress is not None:
                self._on_progress(self._done + max(0, held - before), self._to_compute, task)

        result = self._engine.prefill(tokens, tell, sequence=sequence, reserve=len(task.tokens))
        if result.cancelled:
            raise Cancelled("the test was stopped: what was measured by then is kept")
        return result.prompt_tokens - result.cached_tokens

    def _forget(self) -> None:
        self._trunk = ()
        for sequence in (_TRUNK, _BRANCH) if self._branches else (_TRUNK,):
            self._engine.drop_sequence(sequence)


def _has_branch(engine: Engine) -> bool:
    """Whether the context has a second sequence, which is then empty."""
    try:
        engine.drop_sequence(_BRANCH)
    except EngineDied:
        raise
    except EngineError:
        return False
    return True
