"""Windows and streaming: what each layer sees, and what they do not go with."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ropewalk_plan import PlanError, RopeSpec, ScheduleStep, make_plan

SPEC = RopeSpec("llama", n_rot=64, base=10000.0, train_length=2048, n_layer=6)
LIST = (512, 512, 1024, 0, 1024, 0)


@pytest.mark.parametrize(
    ("options", "windows", "sinks"),
    [
        ({}, (2048,) * 6, 0),
        ({"windows": "512"}, (512,) * 6, 0),
        ({"windows": "512", "sinks": "4"}, (512,) * 6, 4),
        ({"windows": "512/512/1024/0/1024/0"}, LIST, 0),
        ({"windows": "512,512,1024,0,1024,0"}, LIST, 0),
        ({"windows": " 512 512 1024  0 1024 0\n"}, LIST, 0),
        ({"windows": "512", "rule": "layer-wise"}, (512, 1024, 2048, 4096, 8192, 0), 0),
        ({"windows": "0"}, (), 0),
        ({"windows": "0/0/0/0/0/0", "sinks": "4"}, (), 0),
        ({"rule": "layer-wise"}, (2048, 2048, 4096, 8192, 8192, 0), 0),
    ],
)
def test_windows_of_each_layer(options: dict[str, str], windows: tuple[int, ...], sinks: int) -> None:
    plan = make_plan(SPEC, "windows", 16384, options=options)
    assert (plan.windows, plan.sinks, plan.streaming) == (windows, sinks, False)
    assert plan.schedule == ()


@given(window=st.integers(1, 5000), target=st.integers(2048, 200_000), n_layer=st.integers(1, 80))
def test_layer_wise_windows_rise_from_short_at_the_bottom_to_all_at_the_top(
    window: int, target: int, n_layer: int
) -> None:
    spec = RopeSpec("llama", n_rot=64, base=10000.0, train_length=2048, n_layer=n_layer)
    plan = make_plan(spec, "windows", target, options={"windows": str(window), "rule": "layer-wise"})
    if window >= target or n_layer == 1:
        assert plan.windows == ()
        return
    assert len(plan.windows) == n_layer
    assert plan.windows[0] == window
    assert plan.windows[-1] == 0
    seen = [width or target for width in plan.windows]
    assert seen == sorted(seen)
    assert max(plan.windows) < target


@pytest.mark.parametrize(
    ("options", "window", "sinks"),
    [
        ({}, 1817, 4),  # and a block of 227
        ({"window": "2044"}, 2044, 4),  # the paper's cache: 4 + 2044
        ({"window": "1020"}, 1020, 4),
        ({"window": "1024", "sinks": "0"}, 1024, 0),
        ({"sinks": "1"}, 1820, 1),
        ({"sinks": "2046"}, 1, 2046),
    ],
)
def test_streaming_has_one_window_in_every_layer(options: dict[str, str], window: int, sinks: int) -> None:
    plan = make_plan(SPEC, "streaming", 1_000_000, options=options)
    assert (plan.windows, plan.sinks, plan.streaming) == ((window,) * 6, sinks, True)


def farthest(window: int, sinks: int) -> int:
    """The largest distance that a query of a long stream sees, by looking at every query of one block."""
    block = min(256, max(1, window // 8))
    moved = [(p, p // block * block - window + 1 - sinks) for p in range(5 * block, 6 * block)]
    start = 5 * block
    while moved[0][1] < 0:  # a block that the window's beginning lies within the text of
        start += block
        moved = [(p, p // block * block - window + 1 - sinks) for p in range(start, start + block)]
    to_sinks = [p - by for p, by in moved] if sinks else []
    return max([window - 1, *to_sinks])


@settings(deadline=None)
@given(length=st.integers(2, 40_000), data=st.data())
def test_the_default_window_is_the_widest_that_keeps_distances_trained(
    length: int, data: st.DataObject
) -> None:
    sinks = data.draw(st.integers(1, 64))
    spec = RopeSpec("llama", n_rot=64, base=10000.0, train_length=length, n_layer=1)
    if sinks > length - 2:
        with pytest.raises(PlanError, match="option sinks is"):
            make_plan(spec, "streaming", 2 * length, options={"sinks": str(sinks)})
        return
    (window,) = make_plan(spec, "streaming", 2 * length, options={"sinks": str(sinks)}).windows
    assert farthest(window, sinks) < length - 1
    assert farthest(window + 1, sinks) >= length - 1


def test_streaming_states_the_factors_of_the_model() -> None:
    """Where another method gives none: those it has, and its attention factor."""
    assert make_plan(SPEC, "streaming", 8192).schedule == (ScheduleStep(8192, (1.0,) * 32),)
    scaled = dataclasses.replace(SPEC, own_factors=(1.0, 2.0) * 16, own_attention_factor=1.25)
    assert make_plan(scaled, "streaming", 8192).schedule == (ScheduleStep(8192, (1.0, 2.0) * 16, 1.25),)
    assert make_plan(scaled, "windows", 8192).schedule == ()
    assert make_plan(SPEC, "streaming", 2048).schedule == ()  # off


@pytest.mark.parametrize(
    ("method", "options", "changes"),
    [
        ("windows", {}, False),
        ("windows", {"windows": "2048"}, False),
        ("windows", {"windows": "2047"}, True),
        ("windows", {"windows": "2047", "sinks": "1"}, False),
        ("windows", {"windows": "0/0/0/100/0/0"}, True),
        ("streaming", {}, True),  # the last block of a text of L loses tokens
        ("streaming", {"window": "2044"}, False),
        ("streaming", {"window": "2043"}, True),
    ],
)
def test_whether_a_text_within_the_train_length_is_read_otherwise(
    method: str, options: dict[str, str], changes: bool
) -> None:
    assert make_plan(SPEC, method, 8192, options=options).changes_within_train_length is changes


@pytest.mark.parametrize(
    "frequencies",
    [
        "pi",
        "ntk",
        "ntk-by-parts",
        "yarn",
        "dprope",
        "abf",
        "small-base",
        "llama3",
        "dynamic-ntk",
        "extra-mpe",
    ],
)
def test_windows_compose_with_everything_that_rotates(frequencies: str) -> None:
    alone = make_plan(SPEC, frequencies, 8192)
    both = make_plan(SPEC, f"windows+{frequencies}", 8192)
    assert (both.schedule, both.position_map) == (alone.schedule, alone.position_map)
    assert both.windows == (2048,) * 6
    assert both.method == f"{frequencies}+windows"


def test_qwens_own_recipe() -> None:
    plan = make_plan(
        SPEC,
        "dynamic-ntk+logn+windows",
        8192,
        options={"form": "qwen", "windows": "1024", "rule": "layer-wise"},
    )
    assert plan.method == "dynamic-ntk+logn+windows"
    assert [step.up_to_length for step in plan.schedule] == [2048, 4096, 8192]
    assert plan.logn_length == 2048
    assert plan.windows == (1024, 1024, 2048, 4096, 4096, 0)


@pytest.mark.parametrize("static", ["pi", "ntk", "yarn", "dprope", "abf"])
def test_streaming_composes_with_static_frequencies(static: str) -> None:
    plan = make_plan(SPEC, f"{static}+streaming", 8192)
    assert plan.streaming
    assert plan.schedule == make_plan(SPEC, static, 8192).schedule


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ("windows", "both decide which tokens a layer sees"),
        ("extra-pe", "counts positions within its cache"),
        ("extra-mpe", "counts positions within its cache"),
        ("logn", "the same number of tokens"),
        ("dynamic-ntk", "frequencies that follow the length"),
        ("dynamic-yarn", "frequencies that follow the length"),
        ("longrope", "frequencies that follow the length"),
        ("none", "both decide"),
    ],
)
def test_what_streaming_contradicts_and_why(other: str, why: str) -> None:
    for method in (f"streaming+{other}", f"{other}+streaming"):
        with pytest.raises(PlanError) as error:
            make_plan(SPEC, method, 8192)
        assert f"methods {other} and streaming contradict each other" in str(error.value)
        assert why in str(error.value)


@pytest.mark.parametrize(
    ("method", "options", "named"),
    [
        (
            "windows",
            {"windows": "1/2/3"},
            "windows is 1/2/3, which is 3 numbers; it must be one number, or one",
        ),
        ("windows", {"windows": "1,2,3,4,5,6,7"}, "7 numbers"),
        ("windows", {"windows": "-5"}, "option windows is '-5'"),
        ("windows", {"windows": "1.5"}, "option windows is '1.5'"),
        ("windows", {"windows": ""}, "option windows is ''"),
        ("windows", {"windows": "many"}, "option windows is 'many'"),
        ("windows", {"windows": "4294967296"}, "option windows is '4294967296'"),
        ("windows", {"windows": "1/2/3/4/5/6", "rule": "layer-wise"}, "with rule=layer-wise"),
        ("windows", {"windows": "0", "rule": "layer-wise"}, "with rule=layer-wise"),
        ("windows", {"rule": "upside-down"}, "option rule is 'upside-down'"),
        ("windows", {"sinks": "-1"}, "option sinks is '-1'"),
        ("windows", {"window": "5"}, "option window=5 is unknown to method windows"),
        ("streaming", {"window": "0"}, "option window is '0'"),
        ("streaming", {"sinks": "2048"}, "option sinks is 2048; it must be at least 2 below the train"),
        ("streaming", {"sinks": "2047"}, "option sinks is 2047; it must be at least 2 below the train"),
        ("streaming", {"sinks": "134217728"}, "it must be a whole number from 0 to 134217727"),
        ("streaming", {"window": "134217728"}, "or a whole number of tokens from 1 to 134217727"),
        ("windows", {"windows": "134217728"}, "windows has 134217728; each must be 0 (all)"),
        ("streaming", {"sinks": "0.5"}, "option sinks is '0.5'"),
    ],
)
def test_refusals(method: str, options: dict[str, str], named: str) -> None:
    with pytest.raises(PlanError) as error:
        make_plan(SPEC, method, 8192, options=options)
    assert named in str(error.value)
