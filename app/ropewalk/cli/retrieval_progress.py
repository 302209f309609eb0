"""Progress of retrieval tests, with the time left: of all cells under all plans, and of the one at work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager

from ropewalk.cli.progress import ProgressReport, Tokens, TokensOfTexts, Update
from ropewalk.engine import Engine
from ropewalk.evaluation.retrieval import RetrievalResult, RetrievalTask
from ropewalk.evaluation.retrieval_order import Step
from ropewalk.evaluation.retrieval_run import planned_steps, run_tasks


class ShownRuns:
    """Runs of tasks, one plan after the other, as one step of a progress report."""

    def __init__(self, progress: ProgressReport, overall: Update, to_compute: int) -> None:
        """See `shown_runs`."""
        self._progress, self._overall, self._to_compute = progress, overall, to_compute
        self._before = 0

    def run(
        self, engine: Engine, tasks: Sequence[RetrievalTask], *, method: str
    ) -> Iterator[RetrievalResult]:
        """`run_tasks`, shown."""
        ordered = planned_steps(engine, tasks)
        with closing(_Cells(self._progress, ordered, method)) as cells:

            def tell(done: int, _total: int, _task: RetrievalTask) -> None:
                self._overall(self._before + done, self._to_compute)
                cells.update(done)

            for result in run_tasks(engine, tasks, method=method, on_progress=tell):
                cells.close()
                yield result
        self._before += sum(step.to_compute for step in ordered)


@contextmanager
def shown_runs(progress: ProgressReport, label: str, to_compute: int) -> Iterator[ShownRuns]:
    """Show a step while tasks are run.

    Args:
        progress: told of it.
        label: what is being done.
        to_compute: prompt tokens that all of its runs compute.
    """
    with progress.step(label, TokensOfTexts()) as overall:
        yield ShownRuns(progress, overall, to_compute)


def run_with_progress(
    engine: Engine, tasks: Sequence[RetrievalTask], progress: ProgressReport, *, method: str
) -> Iterator[RetrievalResult]:
    """`run_tasks` under the plan in force, shown as a step of its own.

    Args:
        engine: has the model loaded, with a context that is long enough.
        tasks: what to ask.
        progress: told of it.
        method: the label of the plan in force.
    """
    to_compute = sum(step.to_compute for step in planned_steps(engine, tasks))
    with shown_runs(progress, f"{method}, {len(tasks)} cells", to_compute) as shown:
        yield from shown.run(engine, tasks, method=method)


class _Cells:
    """Steps of the progress report for one cell after the other."""

    def __init__(self, progress: ProgressReport, ordered: Sequence[Step], method: str) -> None:
        self._progress, self._method = progress, method
        self._ordered = iter(ordered)
        self._before = self._to_compute = 0
        self._stack = ExitStack()
        self._update: Update | None = None

    def update(self, done: int) -> None:
        """So many tokens are computed of all cells."""
        if self._update is None:
            self._before += self._to_compute
            step = next(self._ordered)
            self._to_compute = step.to_compute
            label = f"{self._method}: {step.task.length:,} at {step.task.depth:g}"
            self._update = self._stack.enter_context(self._progress.step(label, Tokens()))
        self._update(done - self._before, self._to_compute)

    def close(self) -> None:
        """The cell at work is done; harmless where none is."""
        self._stack.close()
        self._update = None
