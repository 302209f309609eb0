"""What a plan says of itself: above all, whether it changes anything within the train length."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from ropewalk_plan import ContextPlan, PlanError, PositionKind, PositionMap, ScheduleStep

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


STREAM = ContextPlan(
    "", 100, 400, schedule=(ScheduleStep(400, PLAIN),), windows=(16, 32), sinks=4, streaming=True
)
STEPS = (ScheduleStep(100, PLAIN), ScheduleStep(400, HALF))
PERIODIC = PositionMap(PositionKind.PERIODIC, 100, 1)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"windows": ()}, "sinks is 4 and no layer has a window"),
        ({"windows": (), "sinks": 0}, "streaming is on without windows"),
        ({"windows": (0, 0), "sinks": 0}, "layer 0 has no window"),
        ({"windows": (16, 0)}, "layer 1 has no window"),
        ({"schedule": ()}, "streaming is on with 0 schedule steps"),
        ({"schedule": STEPS}, "streaming is on with 2 schedule steps"),
        ({"rope_layers": (1,)}, "must concern every layer"),
        ({"position_map": PERIODIC}, "with a position map"),
        ({"logn_length": 100}, "with LogN"),
        ({"windows": (16, 134217728)}, "windows has 134217728"),
        ({"sinks": 134217728}, "sinks is 134217728"),
        ({"sinks": -1}, "sinks is -1"),
        ({"streaming": False, "windows": (0, 0)}, "sinks is 4 and no layer has a window"),
    ],
)
def test_what_does_not_belong_together(change: dict[str, Any], named: str) -> None:
    with pytest.raises(PlanError, match=re.escape(named)):
        dataclasses.replace(STREAM, **change)


def test_the_largest_windows_and_sinks() -> None:
    largest = dataclasses.replace(STREAM, windows=(134217727, 1), sinks=134217727)
    assert largest.windows == (134217727, 1)
