"""The curves that a plan's plots show, as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ropewalk.evaluation.plan_report import PlanReport
from ropewalk_plan.attention_score import Band, attention_scores, curvature_bound, extrapolation_bound
from ropewalk_plan.rope_spec import FloatArray
from ropewalk_plan.rotation_in_force import IntArray, factors_in_force

_PER_BIN = 64  # distances looked at, at most, for each point of a curve
_GOLDEN_RATIO = (5.0**0.5 - 1.0) / 2.0


@dataclass(frozen=True)
class MethodCurves:
    """One method's curves.

    Attributes:
        label: the method.
        factors: frequency factor of each pair, shape [n_pairs].
        disturbances: of each pair in nats, shape [n_pairs].
        scores: attention score by band, each the mean around that band's `PlanCurves.distances`.
    """

    label: str
    factors: FloatArray
    disturbances: FloatArray
    scores: dict[Band, FloatArray]


@dataclass(frozen=True)
class PlanCurves:
    """What the plots show of one model and one target length.

    Attributes:
        title: model and lengths.
        train_length: L.
        distances: tokens from position 0 by band, the means of the bins of `scores`; high frequencies forget
            within few tokens, so theirs are spaced evenly in the logarithm.
        methods: each method's curves.
        extrapolation_bound: bound on the score of the model as trained, at `distances[Band.ALL]`.
        interpolation_bound: bound on what interpolating adds to scores the model knows (PI, Theorem 2.1).
    """

    title: str
    train_length: int
    distances: dict[Band, FloatArray]
    methods: tuple[MethodCurves, ...]
    extrapolation_bound: FloatArray
    interpolation_bound: float


def plan_curves(reports: Sequence[PlanReport], n_points: int) -> PlanCurves:
    """The curves of some methods on one model.

    Scores swing with every token; a point shows their mean over the distances nearest to it.

    Args:
        reports: of one model and one target length, at least one.
        n_points: points over the distances 0 .. L'-1, at most.
    """
    plan, spec = reports[0].plan, reports[0].spec
    even = np.linspace(0, plan.target_length, min(n_points, plan.target_length) + 1)
    by_ratio = np.unique(np.rint(np.geomspace(1, plan.target_length, n_points + 1)))
    binned = {band: _binned(by_ratio if band is Band.HIGH else even) for band in Band}
    return PlanCurves(
        title=f"{spec.n_rot} rotated dimensions, base {spec.base:g}, "
        f"{plan.train_length:,} to {plan.target_length:,} tokens",
        train_length=plan.train_length,
        distances={band: distances.mean(axis=1) for band, distances in binned.items()},
        methods=tuple(
            MethodCurves(
                label=report.label,
                factors=factors_in_force(report.plan, spec),
                disturbances=report.disturbances,
                scores={
                    band: attention_scores(report.plan, spec, distances, band).mean(axis=1)
                    for band, distances in binned.items()
                },
            )
            for report in reports
        ),
        extrapolation_bound=extrapolation_bound(spec.frequencies, binned[Band.ALL]).mean(axis=1),
        interpolation_bound=curvature_bound(spec.frequencies),
    )


def _binned(edges: FloatArray) -> IntArray:
    """Whole distances between neighbouring edges, shape [n_bins, distances in a bin].

    Where a bin has more than are looked at, they are spread by the golden ratio: even steps would resonate
    with a pair whose wavelength divides them.
    """
    per_bin = min(_PER_BIN, int(np.max(np.diff(edges))))
    within = (np.arange(per_bin) * _GOLDEN_RATIO) % 1.0
    return np.floor(edges[:-1, None] + within * np.diff(edges)[:, None]).astype(np.int64)
