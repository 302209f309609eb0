"""The evidence of a choice: what a results file holds, and what is measured where it holds nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from ropewalk.engine import Engine
from ropewalk.evaluation.choose import Stage
from ropewalk.evaluation.labelled_plan import LabelledPlan
from ropewalk.evaluation.reading_cost import ReadingCost, fit_reading_cost
from ropewalk.evaluation.results_retrieval import as_row
from ropewalk.evaluation.retrieval import RetrievalResult, RetrievalTask
from ropewalk.evaluation.retrieval_run import run_tasks, work_of

LOSSES, ANSWER, CONTROL = "losses", "answer", "control"
"""What a result is evidence of."""

Row = Mapping[str, Any]
"""One result, as JSON values."""

Step = Callable[[str], AbstractContextManager[Callable[[float, float], None]]]
"""Shows a step at work: gives a function that is told the tokens done and in all."""


def now() -> float:
    """Seconds by a clock that goes on steadily."""
    return time.monotonic()


class RecordedEvidence:
    """What results say; nothing else is known."""

    def __init__(self, rows: Sequence[Row]) -> None:
        """Evidence of a file's results."""
        self._rows = list(rows)

    def losses(self, stage: str, label: str) -> Sequence[float] | None:
        """See `choose.Evidence`."""
        found = [row for row in self._of(LOSSES, label) if row["stage"] == stage]
        return [float(loss) for loss in found[0]["losses"]] if found else None

    def answer(self, label: str, number: int) -> bool | None:
        """See `choose.Evidence`."""
        return _numbered(self._of(ANSWER, label), number)

    def control(self, number: int) -> bool | None:
        """See `choose.Evidence`."""
        return _numbered([row for row in self._rows if row["evidence"] == CONTROL], number)

    def _of(self, kind: str, label: str) -> list[Row]:
        return [row for row in self._rows if row["evidence"] == kind and row["method"] == label]


def _numbered(rows: Sequence[Row], number: int) -> bool | None:
    return bool(rows[number]["hit"]) if number < len(rows) else None


@dataclass(frozen=True)
class Material:
    """What plans are measured with.

    Attributes:
        plans: by label.
        plain: the plain model's label.
        tokens: a text, at least up to the last token that is scored.
        stages: which of its tokens are scored, by the stage's name.
        cells: the questions at the target length.
        control: questions within L; none where L is too short for one.
        use: puts a plan in force, in a context for the longest of these.
    """

    plans: Mapping[str, LabelledPlan]
    plain: str
    tokens: tuple[int, ...]
    stages: Mapping[str, Stage]
    cells: tuple[RetrievalTask, ...]
    control: tuple[RetrievalTask, ...]
    use: Callable[[LabelledPlan], None]


@dataclass
class Clock:
    """What was spent, and what reading costs.

    Attributes:
        budget: seconds; None for no bound.
        samples: tokens read from nothing, and the seconds that took.
        refused: what was not begun because the budget would not have held, in words; empty for nothing.
    """

    budget: float | None = None
    samples: list[tuple[int, float]] = field(default_factory=list)
    refused: str = ""
    _began: float = field(init=False)

    def __post_init__(self) -> None:
        """Start it."""
        self._began = now()

    @property
    def cost(self) -> ReadingCost:
        """What reading costs, from the samples so far; at least one."""
        return fit_reading_cost(self.samples)

    def affords(self, what: str, seconds: float) -> bool:
        """Whether there is so much time left; notes what there is not time for."""
        if self.budget is None or now() - self._began + seconds <= self.budget:
            return True
        self.refused = self.refused or what
        return False


class MeasuringEvidence(RecordedEvidence):
    """What results say, and what an engine says where they say nothing."""

    def __init__(
        self,
        rows: Sequence[Row],
        *,
        engine: Engine,
        material: Material,
        add: Callable[[Row], None],
        step: Step,
        clock: Clock,
    ) -> None:
        """Evidence to be measured.

        Args:
            rows: of a file to go on from.
            engine: with the model loaded.
            material: what to measure with.
            add: takes each new result.
            step: shows what is at work.
            clock: bounds it.
        """
        super().__init__(rows)
        self._engine, self._material = engine, material
        self._add, self._step, self._clock = add, step, clock
        self._running: tuple[str, str, Iterator[RetrievalResult]] | None = None

    def losses(self, stage: str, label: str) -> Sequence[float] | None:
        """See `choose.Evidence`."""
        known, part = super().losses(stage, label), self._material.stages[stage]
        seconds = self._clock.cost.seconds(part.end)
        if known is not None or not self._clock.affords(f"the perplexity of {label}", seconds):
            return known
        self._use(label)
        watch = _Watch()
        with self._step(f"perplexity, {label}") as update:

            def tell(done: int, total: int) -> None:
                watch.note(done)
                update(done, total)

            values = self._engine.score(
                self._material.tokens[: part.end], tell, first=part.first, reserve=part.end
            )
        self._clock.samples.extend(watch.samples)
        losses = [-value for value in values]
        self._keep(
            {"evidence": LOSSES, "stage": stage, "method": label, "losses": losses, "seconds": watch.seconds}
        )
        return losses

    def answer(self, label: str, number: int) -> bool | None:
        """See `choose.Evidence`."""
        return self._asked(ANSWER, label, self._material.cells, super().answer(label, number))

    def control(self, number: int) -> bool | None:
        """See `choose.Evidence`."""
        known = super().control(number)
        if number >= len(self._material.control):
            return known
        return self._asked(CONTROL, self._material.plain, self._material.control, known)

    def _asked(
        self, kind: str, label: str, tasks: Sequence[RetrievalTask], known: bool | None
    ) -> bool | None:
        """The next answer of a plan, where it is not known."""
        if known is not None:
            return known
        done = {(row["depth"], row["trial"]) for row in self._of(kind, label)}
        left = [task for task in tasks if (task.depth, task.trial) not in done]
        plan = self._material.plans[label].plan
        each = work_of(left, plan).planned / len(left)
        longest = max(len(task.tokens) for task in left)
        share = min(1.0, each / longest) if self._is_running(kind, label) else 1.0  # nothing is held at first
        seconds = share * self._clock.cost.seconds(longest)
        if not self._clock.affords(f"another answer of {label} at {left[0].length:,} tokens", seconds):
            return None
        for result in self._run(kind, label, left):
            self._keep({"evidence": kind, **as_row(result)})
            return result.hit
        return None

    def _run(self, kind: str, label: str, left: Sequence[RetrievalTask]) -> Iterator[RetrievalResult]:
        """The answers of a plan as they come; those of one plan go on as long as no other is asked."""
        if self._running is None or not self._is_running(kind, label):
            self._use(label)
            self._running = (kind, label, self._answers(label, left))
        return self._running[2]

    def _is_running(self, kind: str, label: str) -> bool:
        """Whether the last answer was one of these, so that what their prompts have in common is held."""
        return self._running is not None and self._running[:2] == (kind, label)

    def _answers(self, label: str, tasks: Sequence[RetrievalTask]) -> Iterator[RetrievalResult]:
        """Answers; a step is shown for each, from the first of its tokens."""
        told: list[Callable[[float, float], None]] = []

        def tell(done: int, total: int, task: RetrievalTask) -> None:
            for update in told:
                update(done, total)

        results = run_tasks(self._engine, tasks, method=label, on_progress=tell)
        while True:
            with self._step(f"passkey at {tasks[0].length:,}, {label}") as update:
                told[:] = [update]
                result = next(results, None)
            if result is None:
                return
            yield result

    def _use(self, label: str) -> None:
        self._running = None
        self._material.use(self._material.plans[label])

    def _keep(self, row: Row) -> None:
        self._rows.append(row)
        self._add(row)


class _Watch:
    """Notes how long reading takes, from its beginning."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._held: int | None = None
        self.samples: list[tuple[int, float]] = []

    @property
    def seconds(self) -> float:
        return round(time.perf_counter() - self._began, 3)

    def note(self, done: int) -> None:
        if self._held is None:
            self._held = done
        elif self._held == 0:  # what goes on from a prefix says nothing of reading it
            self.samples.append((done, time.perf_counter() - self._began))
