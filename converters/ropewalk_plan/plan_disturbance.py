"""The disturbance of a whole plan (DPRoPE's measure, `ropewalk_plan.disturbance`), position maps included."""

from __future__ import annotations

import numpy as np

from ropewalk_plan.disturbance import DEFAULT_BINS, Direction, angle_histogram, divergence
from ropewalk_plan.plan import ContextPlan, PositionKind, PositionMap
from ropewalk_plan.rope_spec import FloatArray, RopeSpec
from ropewalk_plan.rotation_in_force import frequencies_in_force


def plan_disturbances(
    plan: ContextPlan,
    spec: RopeSpec,
    *,
    bins: int = DEFAULT_BINS,
    direction: Direction = Direction.ORIGINAL_EXTENDED,
) -> FloatArray:
    """KL divergence of each pair's angles within L, as trained, from those the plan gives them within L'.

    DPRoPE, Wu et al. 2024, Eq. 8. Angles of mapped pairs are those of the mapped positions, so a periodic map
    repeats the trained distribution: 0 where L' is a multiple of L, next to 0 where the last period is broken
    off. Windows and streaming do not enter: distances are those of a layer that sees everything. The small
    epsilon in the divergence can push a 0 below itself; it is taken for the 0 it is.

    Args:
        plan: what is in force at its target length is used.
        spec: the model that the plan was made for.
        bins: b.
        direction: which way round.

    Returns:
        Divergences in nats, shape [n_pairs], none negative.
    """
    disturbances = np.empty(spec.n_pairs, dtype=np.float64)
    extended = frequencies_in_force(plan, spec)
    for pair, (before, after) in enumerate(zip(spec.frequencies, extended, strict=True)):
        position_map = plan.position_map if pair >= plan.position_map.first_pair else PositionMap()
        trained = angle_histogram(float(before), plan.train_length, bins)
        reached = mapped_histogram(float(after), plan.target_length, position_map, bins)
        if direction is Direction.ORIGINAL_EXTENDED:
            disturbances[pair] = divergence(trained, reached)
        else:
            disturbances[pair] = divergence(reached, trained)
    return np.maximum(disturbances, 0.0)


def mapped_histogram(theta: float, length: int, position_map: PositionMap, bins: int) -> FloatArray:
    """The distribution of `p(m) theta mod 2 pi` for positions m = 0 .. length-1.

    Put together from histograms of runs of neighbouring positions, so that it costs one period at most.

    Args:
        theta: radians per token.
        length: number of positions.
        position_map: p.
        bins: b.

    Returns:
        Probabilities, shape [bins], summing to 1.
    """
    if position_map.kind is PositionKind.IDENTITY:
        return angle_histogram(theta, length, bins)
    periods, rest = divmod(length, position_map.period)
    counts = _counts_of_period(theta, rest, position_map, bins)
    if periods:
        counts = counts + periods * _counts_of_period(theta, position_map.period, position_map, bins)
    return counts / length


def _counts_of_period(theta: float, length: int, position_map: PositionMap, bins: int) -> FloatArray:
    """Counts for the first `length` positions, at most one period."""
    half = position_map.period // 2
    if position_map.kind is PositionKind.PERIODIC or length <= half:
        return _counts(theta, length, bins)
    # mirrored: 0 .. half-1, then down from `half` for the positions that are left
    lowest = position_map.period - length + 1
    return _counts(theta, half, bins) + _counts(theta, half + 1, bins) - _counts(theta, lowest, bins)


def _counts(theta: float, length: int, bins: int) -> FloatArray:
    if length == 0:
        return np.zeros(bins, dtype=np.float64)
    return np.rint(angle_histogram(theta, length, bins) * length)
