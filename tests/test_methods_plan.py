"""What a plan says of itself: above all, whether it changes anything within the train length."""

from __future__ import annotations

import pytest

from ropewalk_plan import ContextPlan, PositionKind, PositionMap, ScheduleStep

PLAIN, HALF = (1.0, 1.0), (1.0, 2.0)
IDENTITY = PositionMap()


def plan(
    *steps: ScheduleStep,
    position_map: PositionMap = IDENTITY,
    logn_length: int = 0,
    windows: tuple[int, ...] = (),
    sinks: int = 0,
) -> ContextPlan:
    return ContextPlan(
        method="of numbers",
        train_length=100,
        target_length=400,
        schedule=steps,
        position_map=position_map,
        logn_length=logn_length,
        windows=windows,
        sinks=sinks,
    )


@pytest.mark.parametrize(
    ("steps", "changes"),
    [
        ((), False),
        ((ScheduleStep(400, PLAIN),), False),
        ((ScheduleStep(400, HALF),), True),
        ((ScheduleStep(400, PLAIN, 1.1),), True),
        ((ScheduleStep(100, PLAIN), ScheduleStep(400, HALF, 1.2)), False),
        ((ScheduleStep(100, HALF), ScheduleStep(400, PLAIN)), True),
        ((ScheduleStep(99, PLAIN), ScheduleStep(400, HALF)), True),  # the second is in force at 100
        ((ScheduleStep(50, PLAIN), ScheduleStep(100, PLAIN), ScheduleStep(400, HALF)), False),
        ((ScheduleStep(150, PLAIN), ScheduleStep(400, HALF)), False),
    ],
)
def test_the_steps_in_force_up_to_the_train_length_count(
    steps: tuple[ScheduleStep, ...], changes: bool
) -> None:
    assert plan(*steps).changes_within_train_length is changes


@pytest.mark.parametrize(
    ("position_map", "changes"),
    [
        (PositionMap(PositionKind.PERIODIC, 100, 1), False),
        (PositionMap(PositionKind.PERIODIC, 98, 1), True),
        (PositionMap(PositionKind.MIRRORED, 200, 1), False),
        (PositionMap(PositionKind.MIRRORED, 198, 1), True),
    ],
)
def test_a_position_map_counts_from_where_it_is_not_the_identity(
    position_map: PositionMap, changes: bool
) -> None:
    assert plan(ScheduleStep(400, PLAIN), position_map=position_map).changes_within_train_length is changes


@pytest.mark.parametrize(("logn_length", "changes"), [(0, False), (99, True), (100, False), (200, False)])
def test_logn_counts_from_its_own_length(logn_length: int, changes: bool) -> None:
    assert plan(logn_length=logn_length).changes_within_train_length is changes


@pytest.mark.parametrize(
    ("windows", "sinks", "changes"),
    [((0, 0), 0, False), ((0, 99), 0, True), ((0, 99), 1, False), ((100, 300), 0, False)],
)
def test_windows_count_where_they_hide_a_token(windows: tuple[int, ...], sinks: int, changes: bool) -> None:
    assert plan(windows=windows, sinks=sinks).changes_within_train_length is changes
