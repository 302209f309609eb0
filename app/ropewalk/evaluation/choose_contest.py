"""A contest of the candidates for a model: their order, the stages, and who is alike where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ropewalk.evaluation.choose import Contest, Stage
from ropewalk.evaluation.labelled_plan import PLAIN, LabelledPlan
from ropewalk.evaluation.plan_effect import PlanEffect, plan_effect
from ropewalk_plan import RopeSpec, make_plan
from ropewalk_plan.disturbance import TABLE_UNIT
from ropewalk_plan.plan_disturbance import plan_disturbances

SHORT, PAST = "the first tokens", "just past the train length"
"""The stages of perplexity."""

SHORT_TOKENS = 512
PAST_TOKENS = 256

_CHEAP = 2
"""A stage is worth its reading where an answer at the target length reads as many times as much."""


def disturbances_of(
    plans: Sequence[LabelledPlan], spec: RopeSpec, target_length: int, train_length: int
) -> dict[str, float]:
    """By label, the mean disturbance of the rotary angles, in the unit of DPRoPE's Table 3."""
    return {
        plan.label: TABLE_UNIT
        * float(
            np.mean(
                plan_disturbances(
                    plan.plan or make_plan(spec, plan.method, target_length, train_length), spec
                )
            )
        )
        for plan in plans
    }


def make_contest(
    plans: Sequence[LabelledPlan],
    spec: RopeSpec,
    disturbances: Mapping[str, float],
    *,
    target_length: int,
    train_length: int,
    cells: int,
    control_cells: int,
) -> Contest:
    """Who is in the running, in the order of their disturbance.

    Args:
        plans: the candidates, the plain model among them.
        spec: the model's own rotation.
        disturbances: by label.
        target_length: L' in tokens.
        train_length: L in tokens.
        cells: questions at L'.
        control_cells: questions within L.
    """
    order = sorted(plans, key=lambda plan: disturbances[plan.label])
    short = min(SHORT_TOKENS, train_length)
    past = train_length + PAST_TOKENS
    stages = [Stage(SHORT, 1, short, _alike(order, spec, short))]
    if _CHEAP * past <= target_length:
        stages.append(Stage(PAST, train_length, past, _alike(order, spec, past)))
    return Contest(
        order=tuple(plan.label for plan in order),
        plain=PLAIN,
        stages=tuple(stages),
        alike=_alike(order, spec, target_length),
        cells=cells,
        control_cells=control_cells,
        forgetful=frozenset(
            plan.label
            for plan in order
            if plan.plan is not None and plan.plan.windows and all(plan.plan.windows)
        ),
    )


def _alike(plans: Sequence[LabelledPlan], spec: RopeSpec, length: int) -> dict[str, str]:
    """For each plan the first one of the same effect on a text of this length, the plain model before all."""
    first: dict[PlanEffect, str] = {}
    for plan in sorted(plans, key=lambda plan: plan.plan is not None):
        first.setdefault(plan_effect(plan.plan, spec, length), plan.label)
    return {plan.label: first[plan_effect(plan.plan, spec, length)] for plan in plans}
