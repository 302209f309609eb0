"""Plans to their C form and back, and through the patched library."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.backend import context_plan, library, plan_api
from ropewalk.backend.errors import LibraryNotPatchedError, PlanRefusedError
from ropewalk.backend.model import Model
from ropewalk_plan.plan import ContextPlan, PositionKind, PositionMap, ScheduleStep

_LENGTH = st.integers(1, 2**20)
_FACTOR = st.floats(2.0**-10, 2.0**99, width=32)
_ATTENTION_FACTOR = st.floats(2.0**-10, 2.0**10, width=32)
_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@st.composite
def plans(draw: st.DrawFn) -> ContextPlan:
    """Any plan that the C form can say."""
    train_length = draw(_LENGTH)
    n_pairs = draw(st.integers(1, 8))
    lengths = sorted(draw(st.sets(st.integers(train_length, 2**21), max_size=3)))
    schedule = tuple(
        ScheduleStep(
            length,
            tuple(draw(st.lists(_FACTOR, min_size=n_pairs, max_size=n_pairs))),
            draw(_ATTENTION_FACTOR),
        )
        for length in lengths
    )
    windows = tuple(draw(st.lists(st.integers(0, 2**20), max_size=4)))
    streaming = len(lengths) == 1 and bool(windows) and all(windows) and draw(st.booleans())
    position_map = PositionMap()
    if lengths and not streaming and draw(st.booleans()):
        kind = draw(st.sampled_from([PositionKind.PERIODIC, PositionKind.MIRRORED]))
        position_map = PositionMap(kind, 2 * draw(_LENGTH), draw(st.integers(0, n_pairs - 1)))
    return ContextPlan(
        method=draw(_TEXT),
        options=draw(_TEXT),
        train_length=train_length,
        target_length=lengths[-1] if lengths else draw(st.integers(train_length, 2**21)),
        schedule=schedule,
        rope_layers=None if streaming else tuple(draw(st.lists(st.integers(0, 99), max_size=4))) or None,
        position_map=position_map,
        logn_length=0 if streaming else draw(st.sampled_from([0, 2, 2**20])),
        windows=windows,
        sinks=draw(st.integers(0, 64)) if any(windows) else 0,
        streaming=streaming,
    )


@given(plans())
def test_a_plan_survives_its_c_form(plan: ContextPlan) -> None:
    assert context_plan.from_params(context_plan.to_params(plan)) == plan


def test_the_c_form_has_the_layout_of_the_header() -> None:
    """14 u32 and 7 pointers, in the header's order."""
    params = plan_api.ContextPlanParams

    assert ctypes.sizeof(params) == 14 * 4 + 7 * ctypes.sizeof(ctypes.c_void_p)
    assert params.n_steps.offset == 4 * 4
    assert params.method.offset == 14 * 4
    assert params.windows.offset == 14 * 4 + 6 * ctypes.sizeof(ctypes.c_void_p)


def test_a_plan_for_no_layer_cannot_be_said() -> None:
    plan = ContextPlan(method="", train_length=8, target_length=8, rope_layers=())

    with pytest.raises(PlanRefusedError, match="names no layer"):
        context_plan.to_params(plan)


def test_a_stock_build_has_no_plans(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "_patch", lambda: ("", 0, ()))
    context_plan._functions.cache_clear()
    model = Model.load(tiny_llama)
    try:
        with pytest.raises(LibraryNotPatchedError, match=r"run \./scripts/setup"):
            model.set_plan(None)
        assert model.plan() is None
    finally:
        model.close()
        context_plan._functions.cache_clear()


@pytest.mark.usefixtures("patched_library")
def test_a_model_takes_and_gives_back_a_plan(tiny_llama: Path) -> None:
    step = ScheduleStep(256, tuple(1.0 + i for i in range(8)), 1.25)
    plan = ContextPlan(
        method="test",
        train_length=64,
        target_length=256,
        schedule=(step,),
        rope_layers=(1,),
        position_map=PositionMap(PositionKind.MIRRORED, 128, 3),
        logn_length=64,
    )
    model = Model.load(tiny_llama)
    try:
        model.set_plan(plan)
        assert model.plan() == (plan, False)
        assert model.context_length == 256
        model.set_plan(None)
        assert model.plan() is None
        assert model.context_length == 64
    finally:
        model.close()


@pytest.mark.usefixtures("patched_library")
def test_a_refused_plan_says_why(tiny_llama: Path) -> None:
    """The tiny model rotates 8 pairs."""
    plan = ContextPlan("test", 64, 128, schedule=(ScheduleStep(128, (1.0, 2.0)),))
    model = Model.load(tiny_llama)
    try:
        with pytest.raises(PlanRefusedError, match="2 pairs"):
            model.set_plan(plan)
    finally:
        model.close()
