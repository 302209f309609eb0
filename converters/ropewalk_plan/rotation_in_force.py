"""What a plan makes of one model's rotation at the target length: frequencies and mapped positions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ropewalk_plan.plan import ContextPlan, PositionKind, PositionMap
from ropewalk_plan.rope_spec import FloatArray, RopeSpec

IntArray = npt.NDArray[np.int64]


def factors_in_force(plan: ContextPlan, spec: RopeSpec) -> FloatArray:
    """f_i at the target length, relative to `base^(-2i/n_rot)`, shape [n_pairs]."""
    return np.asarray(plan.frequency_factors or spec.own_factors, dtype=np.float64)


def frequencies_in_force(plan: ContextPlan, spec: RopeSpec) -> FloatArray:
    """theta_i at the target length in radians per token, shape [n_pairs]."""
    if not plan.schedule:
        return spec.frequencies
    return spec.frequencies * (spec.factors / factors_in_force(plan, spec))


def attention_factor_in_force(plan: ContextPlan, spec: RopeSpec) -> float:
    """The attention factor at the target length; the model's own where the plan leaves it alone."""
    return plan.attention_factor if plan.schedule else spec.own_attention_factor


def mapped_positions(position_map: PositionMap, positions: IntArray) -> IntArray:
    """p(m) for every position m, as pairs from `first_pair` on see it (`PositionKind` has the formulas)."""
    if position_map.kind is PositionKind.IDENTITY:
        return positions
    within = positions % position_map.period
    if position_map.kind is PositionKind.PERIODIC:
        return within
    return np.where(within < position_map.period // 2, within, position_map.period - within)
