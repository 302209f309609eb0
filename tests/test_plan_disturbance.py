"""The disturbance of whole plans: the papers' figures, and position maps against a count one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ropewalk_plan import PositionKind, PositionMap, RopeSpec, make_plan
from ropewalk_plan.disturbance import Direction
from ropewalk_plan.plan_disturbance import mapped_histogram, plan_disturbances
from ropewalk_plan.rotation_in_force import mapped_positions

LLAMA2 = RopeSpec(architecture="llama", n_rot=128, base=10000.0, train_length=4096, n_layer=32)


@pytest.mark.parametrize(
    ("method", "target_length", "figure"),
    [
        *(("pi", 8192, 24.08), ("yarn", 8192, 25.55), ("dprope", 8192, 6.71)),
        *(("pi", 16384, 33.67), ("yarn", 16384, 35.44), ("dprope", 16384, 22.92)),
    ],
)
def test_table_3_of_dprope(method: str, target_length: int, figure: float) -> None:
    disturbances = plan_disturbances(make_plan(LLAMA2, method, target_length), LLAMA2)
    assert disturbances.mean() * 1000 == pytest.approx(figure, rel=0.005)


def one_by_one(position_map: PositionMap, length: int) -> list[int]:
    """p(m) for m below `length`, as the papers' cases read."""
    positions = []
    for m in range(length):
        q = m % position_map.period
        if position_map.kind is PositionKind.MIRRORED and q >= position_map.period // 2:
            q = position_map.period - q
        positions.append(q)
    return positions


@given(
    kind=st.sampled_from([PositionKind.PERIODIC, PositionKind.MIRRORED]),
    half_period=st.integers(1, 40),
    length=st.integers(1, 400),
    theta=st.floats(1e-4, 1.0),
    bins=st.integers(2, 60),
)
@settings(deadline=None)
def test_mapped_histogram_counts_the_mapped_positions(
    kind: PositionKind, half_period: int, length: int, theta: float, bins: int
) -> None:
    position_map = PositionMap(kind, 2 * half_period, 0)
    positions = one_by_one(position_map, length)
    assert mapped_positions(position_map, np.arange(length)).tolist() == positions
    turns = np.array(positions) * (theta / (2 * np.pi))
    indices = np.minimum(((turns - np.floor(turns)) * bins).astype(int), bins - 1)
    counted = np.bincount(indices, minlength=bins) / length
    assert mapped_histogram(theta, length, position_map, bins) == pytest.approx(counted, abs=1e-12)


def test_mapped_pairs_are_not_disturbed_by_whole_periods() -> None:
    """Extra-PE repeats the trained distribution, Extra-MPE all but repeats it (L in the place of a 0)."""
    first = 45
    extrapolated = plan_disturbances(make_plan(LLAMA2, "none", 16384), LLAMA2)
    periodic = plan_disturbances(make_plan(LLAMA2, "extra-pe", 16384), LLAMA2)
    mirrored = plan_disturbances(make_plan(LLAMA2, "extra-mpe", 16384), LLAMA2)
    assert np.all(periodic[first:] == 0.0)
    assert 0.0 < mirrored[first:].max() < 2e-4
    assert extrapolated[first:].mean() > 0.9, "which without the map they are"
    assert np.array_equal(periodic[:first], extrapolated[:first]), "the others extrapolate"


def test_a_broken_off_period_shows() -> None:
    plan = make_plan(LLAMA2, "extra-pe", 10_000)
    assert 0.001 < plan_disturbances(plan, LLAMA2)[45:].max() < 0.05


def test_nothing_changed_is_0() -> None:
    assert np.all(plan_disturbances(make_plan(LLAMA2, "yarn", 4096), LLAMA2) == 0.0)


def test_the_direction_matters() -> None:
    plan = make_plan(LLAMA2, "none", 16384)
    there = plan_disturbances(plan, LLAMA2)
    back = plan_disturbances(plan, LLAMA2, direction=Direction.EXTENDED_ORIGINAL)
    assert back.mean() > 5 * there.mean(), "angles never seen weigh most in the text's direction"
