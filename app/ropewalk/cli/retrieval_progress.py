"""Progress of retrieval tests, with the time left: of all cells, and of the one at work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing

from ropewalk.cli.progress import ProgressReport, Tokens, Update
from ropewalk.engine import Engine
from ropewalk.evaluation.retrieval import RetrievalResult, RetrievalTask
from ropewalk.evaluation.retrieval_order import Step
from ropewalk.evaluation.retrieval_run import planned_steps, run_tasks


def run_with_progress(
    engine: Engine, tasks: Sequence[RetrievalTask], progress: ProgressReport, *, method: str
) -> Iterator[RetrievalResult]:
    """`run_tasks`, shown.

    Args:
        engine: has the model loaded, with a context that is long enough.
        tasks: what to ask.
        progress: told of it.
        method: the label of the plan in force.
    """
    if not tasks:
        return
    with (
        progress.step(f"{method}, {len(tasks)} cells", Tokens()) as overall,
        closing(_Cells(progress, planned_steps(engine, tasks))) as cells,
    ):

        def tell(done: int, total: int, _task: RetrievalTask) -> None:
            overall(done, total)
            cells.update(done)

        for result in run_tasks(engine, tasks, method=method, on_progress=tell):
            cells.close()
            yield result


class _Cells:
    """Steps of the progress report for one cell after the other."""

    def __init__(self, progress: ProgressReport, ordered: Sequence[Step]) -> None:
        self._progress = progress
        self._ordered = iter(enumerate(ordered, start=1))
        self._before = self._to_compute = 0
        self._stack = ExitStack()
        self._update: Update | None = None

    def update(self, done: int) -> None:
        """So many tokens are computed of all cells."""
        if self._update is None:
            self._before += self._to_compute
            number, step = next(self._ordered)
            self._to_compute = step.to_compute
            label = f"cell {number}: {step.task.length:,} at {step.task.depth:g}"
            self._update = self._stack.enter_context(self._progress.step(label, Tokens()))
        self._update(done - self._before, self._to_compute)

    def close(self) -> None:
        """The cell at work is done; harmless where none is."""
        self._stack.close()
        self._update = None
