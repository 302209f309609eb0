"""What the verbs of retrieval tests have in common: tasks run under every plan, kept, shown, gone on with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ropewalk.cli.evaluation_outputs import EvaluationOutputs
from ropewalk.cli.planned_model import PlannedModel
from ropewalk.cli.progress import ProgressReport
from ropewalk.cli.retrieval_progress import shown_runs
from ropewalk.evaluation.labelled_plan import LabelledPlan
from ropewalk.evaluation.report import Report
from ropewalk.evaluation.results_file import RecordedPlan
from ropewalk.evaluation.results_retrieval import as_row, check_asked, retrieval_results
from ropewalk.evaluation.retrieval import RetrievalTask
from ropewalk.evaluation.retrieval_run import context_length, work_of
from ropewalk.sessions import context_for
from ropewalk.wording.plans import plan_json
from ropewalk.wording.quantities import count


@dataclass(frozen=True)
class RetrievalTest:
    """A test as it is measured.

    Attributes:
        name: of the test, as tasks have it.
        tasks: all that is asked under each plan.
        settings: all else that results depend on, as JSON values; a run goes on only from one with the same.
        report: how to show the results.
    """

    name: str
    tasks: Sequence[RetrievalTask]
    settings: Mapping[str, Any]
    report: Report


def measure(
    planned: PlannedModel, test: RetrievalTest, outputs: EvaluationOutputs, progress: ProgressReport
) -> None:
    """Run a test under every plan but for what `--resume` has, keep each result, and show them all.

    Args:
        planned: the model, loaded.
        test: what to measure.
        outputs: where results go.
        progress: told of it.

    Raises:
        DoesNotFitError: a context for the longest prompt does not fit; nothing was computed.
        ResultsMismatch: the file that `--resume` names is of another measurement.
        ResultsFileError: it is damaged, or has results of other prompts.
    """
    planned.require_room(context_for(context_length(test.tasks)))
    native = planned.engine.model is not None and planned.engine.model.native
    with outputs.recording(
        test=test.name,
        model=planned.path,
        settings=test.settings,
        plans=[_recorded(plan, native) for plan in planned.plans],
        report=test.report,
        total=len(test.tasks) * len(planned.plans),
    ) as recording:
        earlier = retrieval_results(recording.record)
        labels = [plan.label for plan in planned.plans]
        check_asked(earlier, test.tasks, labels, name=str(outputs.resumed or "The results file"))
        done = {(result.method, result.length, result.depth, result.trial) for result in earlier}
        left = [
            (plan, tasks)
            for plan in planned.plans
            if (
                tasks := [
                    task
                    for task in test.tasks
                    if (plan.label, task.length, task.depth, task.trial) not in done
                ]
            )
        ]
        if not left:
            return
        n_cells = sum(len(tasks) for _, tasks in left)
        to_compute = sum(_to_compute(plan, tasks) for plan, tasks in left)
        with shown_runs(progress, f"{test.name}, {count(n_cells, 'cell')}", to_compute) as shown:
            for plan, tasks in left:
                planned.use(plan)
                for result in shown.run(planned.engine, tasks, method=plan.label):
                    recording.add(as_row(result))


def _to_compute(plan: LabelledPlan, tasks: Sequence[RetrievalTask]) -> int:
    streams = plan.plan is not None and plan.plan.streaming
    return work_of(tasks, plan.plan, branches=not streams).planned


def _recorded(plan: LabelledPlan, native: bool) -> RecordedPlan:
    return RecordedPlan(plan.label, None if plan.plan is None else plan_json(plan.plan, native))
