"""Plans as a results file records them."""

from __future__ import annotations

from collections.abc import Iterable

from ropewalk.evaluation.labelled_plan import LabelledPlan
from ropewalk.evaluation.results_file import RecordedPlan
from ropewalk.wording.plans import plan_json


def recorded_plans(plans: Iterable[LabelledPlan], *, native: bool = False) -> tuple[RecordedPlan, ...]:
    """All numbers of some plans, under the labels that results name them by.

    Args:
        plans: as measured.
        native: whether the model's file says them in llama.cpp's own keys; of methods that are tried without
            baking none is.
    """
    return tuple(
        RecordedPlan(plan.label, None if plan.plan is None else plan_json(plan.plan, native))
        for plan in plans
    )
