"""What a plan does to a model, in numbers: pairs, disturbance, where it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from ropewalk.wording.plans import plan_json
from ropewalk_plan import ContextPlan, ModelFacts, RopeSpec, make_plan
from ropewalk_plan.disturbance import TABLE_UNIT
from ropewalk_plan.native import NativeKeys, native_keys
from ropewalk_plan.plan_disturbance import plan_disturbances
from ropewalk_plan.rope_spec import FloatArray
from ropewalk_plan.rotation_in_force import (
    attention_factor_in_force,
    factors_in_force,
    frequencies_in_force,
)

_SAME = 2.0**-22  # relative: an F32 rounding or two
_AS_STORED = ("schedule", "rope_layers", "position_map", "logn_length", "windows", "sinks", "streaming")


class PairState(Enum):
    """What a plan does to one pair, compared with the model as it was trained."""

    KEPT = "as trained"
    INTERPOLATED = "interpolated"  # turns more slowly
    QUICKENED = "quickened"  # turns faster


@dataclass(frozen=True)
class PlanReport:
    """A plan with what can be computed of it without running the model.

    Attributes:
        label: the method as the report calls it, options that were given included.
        plan: the plan.
        spec: the model it was made for.
        disturbances: KL divergence of each pair in nats, shape [n_pairs].
        portable: whether stock llama.cpp can be told all of it.
        portable_reason: why, or why not, in a sentence.
    """

    label: str
    plan: ContextPlan
    spec: RopeSpec
    disturbances: FloatArray
    portable: bool
    portable_reason: str

    @property
    def disturbance(self) -> float:
        """The mean over pairs in the unit of DPRoPE's Table 3 (nats times 1000)."""
        return float(np.mean(self.disturbances)) * TABLE_UNIT

    @property
    def stretches(self) -> FloatArray:
        """By how much each pair turns more slowly than the model was trained with, shape [n_pairs]."""
        return factors_in_force(self.plan, self.spec) / self.spec.factors

    @property
    def states(self) -> tuple[PairState, ...]:
        """What is done to each pair."""
        return tuple(_state(float(stretch)) for stretch in self.stretches)

    @property
    def wavelengths(self) -> FloatArray:
        """Tokens to a full turn of each pair as trained, shape [n_pairs]."""
        return 2.0 * np.pi / self.spec.frequencies

    @property
    def n_interpolated(self) -> int:
        """How many pairs are interpolated."""
        return self.states.count(PairState.INTERPOLATED)


def _state(stretch: float) -> PairState:
    if abs(stretch - 1.0) < _SAME:
        return PairState.KEPT
    return PairState.INTERPOLATED if stretch > 1.0 else PairState.QUICKENED


def make_report(
    spec: RopeSpec,
    facts: ModelFacts,
    *,
    method: str,
    target_length: int,
    train_length: int | None = None,
    options: Mapping[str, str] | None = None,
) -> PlanReport:
    """Make a plan and compute what it does.

    Args:
        spec: the model's own rotation.
        facts: what else of the model decides whether the plan is portable.
        method: a name of `METHODS`, or several joined by `+`.
        target_length: L' in tokens.
        train_length: L in tokens; the model's own where None.
        options: the methods' options as text.

    Raises:
        PlanError: the plan that was asked for cannot be made.
    """
    plan = make_plan(spec, method, target_length, train_length, options)
    said = native_keys(plan, spec, facts)
    given = "".join(f" {name}={value}" for name, value in (options or {}).items())
    return PlanReport(
        label=plan.method + given,
        plan=plan,
        spec=spec,
        disturbances=plan_disturbances(plan, spec),
        portable=isinstance(said, NativeKeys),
        portable_reason=said.reason,
    )


def report_json(report: PlanReport) -> dict[str, Any]:
    """A report as JSON values: all of its numbers; lengths and factors at the target length."""
    plan, spec = report.plan, report.spec
    stored = plan_json(plan, report.portable)
    return {
        "method": plan.method,
        "options": plan.options,
        "train_length": plan.train_length,
        "target_length": plan.target_length,
        "scale": plan.scale,
        "n_rot": spec.n_rot,
        "rope_base": spec.base,
        "frequency_factors": factors_in_force(plan, spec).tolist(),
        "inverse_frequencies": frequencies_in_force(plan, spec).tolist(),
        "attention_factor": attention_factor_in_force(plan, spec),
        **{name: stored[name] for name in _AS_STORED},
        "interpolated_pairs": [
            pair for pair, state in enumerate(report.states) if state is PairState.INTERPOLATED
        ],
        "disturbance": {
            "mean": report.disturbance,
            "mean_unit": "nats, mean over pairs, times 1000",
            "per_pair": report.disturbances.tolist(),
            "per_pair_unit": "nats",
        },
        "portable": report.portable,
        "portable_reason": report.portable_reason,
    }
