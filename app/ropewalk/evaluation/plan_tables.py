"""A plan's report as tables for people, at most 80 columns wide."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from ropewalk.evaluation.plan_report import PairState, PlanReport
from ropewalk.wording.quantities import ranges
from ropewalk_plan import PositionKind
from ropewalk_plan.disturbance import TABLE_UNIT
from ropewalk_plan.rotation_in_force import attention_factor_in_force, factors_in_force

PAIR_HEAD = ("PAIRS", "WAVELENGTH", "TURNS IN L", "FACTOR", "DISTURBANCE", "")
COMPARISON_HEAD = ("DISTURBANCE", "INTERPOLATED", "FACTORS", "ATTENTION", "PORTABLE", "METHOD")

_SIGNIFICANT_NATS = 5e-8  # below it a disturbance is the divergence's epsilon


def pair_rows(report: PlanReport) -> list[tuple[str, ...]]:
    """A row for each run of neighbouring pairs with which the same is done.

    Wavelength (tokens) and turns within L are the model's as trained; the disturbance is the mean over the
    run in the unit of DPRoPE's Table 3.
    """
    factors = factors_in_force(report.plan, report.spec)
    turns = report.plan.train_length / report.wavelengths
    rows: list[tuple[str, ...]] = []
    for _, run in groupby(range(report.spec.n_pairs), lambda pair: (factors[pair], _doing(report, pair))):
        pairs = list(run)
        first, last = pairs[0], pairs[-1]
        rows.append(
            (
                str(first) if first == last else f"{first}-{last}",
                _span(report.wavelengths[first], report.wavelengths[last]),
                _span(turns[first], turns[last]),
                f"{factors[first]:.5g}",
                _disturbance(float(np.mean(report.disturbances[first : last + 1])) * TABLE_UNIT),
                _doing(report, first),
            )
        )
    return rows


def interpolated_line(report: PlanReport) -> str:
    """Which pairs are interpolated, and how many: `21 of 32 pairs: 3, 12-31`."""
    chosen = tuple(pair for pair, state in enumerate(report.states) if state is PairState.INTERPOLATED)
    if not chosen:
        return f"none of {report.spec.n_pairs} pairs"
    return f"{len(chosen)} of {report.spec.n_pairs} pairs: {ranges(chosen)}"


def comparison_rows(reports: Sequence[PlanReport]) -> list[tuple[str, ...]]:
    """A row for each method, whose name and options, which may be long, stand last."""
    return [
        (
            _disturbance(report.disturbance),
            f"{report.n_interpolated} of {report.spec.n_pairs}",
            _factors(report),
            f"{attention_factor_in_force(report.plan, report.spec):.5g}",
            "yes" if report.portable else "no",
            report.label,
        )
        for report in reports
    ]


def _doing(report: PlanReport, pair: int) -> str:
    position_map = report.plan.position_map
    mapped = position_map.kind is not PositionKind.IDENTITY and pair >= position_map.first_pair
    words = report.states[pair].value
    return f"{words}, {position_map.kind.value}" if mapped else words


def _factors(report: PlanReport) -> str:
    factors = factors_in_force(report.plan, report.spec)
    low, high = f"{factors.min():.4g}", f"{factors.max():.4g}"
    return low if low == high else f"{low} to {high}"


def _disturbance(value: float) -> str:
    if value < _SIGNIFICANT_NATS * TABLE_UNIT:
        return "0"
    return f"{value:.2f}" if value >= 0.005 else f"{value:.1e}"


def _span(first: float, last: float) -> str:
    low, high = _number(first), _number(last)
    return low if low == high else f"{low} to {high}"


def _number(value: float) -> str:
    if value < 0.01:
        return f"{value:.1e}"
    if value < 10:
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 1000 else f"{value:,.0f}"
