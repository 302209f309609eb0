"""`make_plan`: composition by `+`, options, and what is refused."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk_plan import METHODS, PlanError, RopeSpec, finetuning_notes, make_plan
from ropewalk_plan.options_text import read_options, tell_options

SPEC = RopeSpec("llama", n_rot=64, base=10000.0, train_length=2048, n_layer=4)


@pytest.mark.parametrize("frequency", ["pi", "ntk", "yarn", "dprope", "extra-pe", "extra-mpe"])
def test_logn_composes_with_everything_that_decides_frequencies(frequency: str) -> None:
    alone = make_plan(SPEC, frequency, 4096)
    both = make_plan(SPEC, f"{frequency}+logn", 4096)
    assert both.schedule == alone.schedule
    assert both.position_map == alone.position_map
    assert both.logn_length == 2048
    assert both.method == f"{frequency}+logn"


@given(st.lists(st.sampled_from(sorted(METHODS)), min_size=2, max_size=3, unique=True))
def test_order_does_not_matter(names: list[str]) -> None:
    outcomes: set[object] = set()
    for order in permutations(names):
        try:
            outcomes.add(make_plan(SPEC, "+".join(order), 4096))
        except PlanError as error:
            outcomes.add(str(error))
    assert len(outcomes) == 1


@pytest.mark.parametrize(
    ("method", "both"),
    [
        ("ntk-by-parts+yarn", ("ntk-by-parts", "yarn")),
        ("abf+small-base", ("abf", "small-base")),
        ("logn+dynamic-ntk+dynamic-yarn", ("dynamic-ntk", "dynamic-yarn")),
        ("extra-pe+dynamic-ntk", ("extra-pe", "dynamic-ntk")),
        ("windows+none", ("none", "windows")),
        ("pi+yarn", ("pi", "yarn")),
        ("dprope+ntk", ("dprope", "ntk")),
        ("extra-pe+extra-mpe", ("extra-pe", "extra-mpe")),
        ("logn+extra-pe+pi", ("extra-pe", "pi")),
        ("none+logn", ("none", "logn")),
    ],
)
def test_contradictions_name_both_methods(method: str, both: tuple[str, str]) -> None:
    with pytest.raises(PlanError, match="contradict") as error:
        make_plan(SPEC, method, 4096)
    for name in both:
        assert name in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"method": "yarm"}, "'yarm'"),
        ({"method": "pi+pi"}, "pi is given twice"),
        ({"method": ""}, "''"),
        ({"target_length": 1024}, "target_length is 1024"),
        ({"target_length": 0}, "target_length is 0"),
        ({"target_length": -5}, "target_length is -5"),
        ({"train_length": 0}, "train_length is 0"),
        ({"options": {"beta_fast": "32"}}, "beta_fast=32"),
        ({"method": "pi", "options": {"threshold": "1"}}, "threshold=1"),
        ({"options": {"threshold": "-1"}}, "threshold is '-1'"),
        ({"options": {"threshold": "nan"}}, "threshold is 'nan'"),
        ({"options": {"threshold": "much"}}, "threshold is 'much'"),
        ({"options": {"bins": "1"}}, "bins is '1'"),
        ({"options": {"bins": "360.5"}}, "bins is '360.5'"),
        ({"options": {"interpolated_dims": "7"}}, "interpolated_dims is '7'"),
        ({"options": {"interpolated_dims": "66"}}, "interpolated_dims is 66"),
        ({"options": {"direction": "up"}}, "direction is 'up'"),
        ({"options": {"max_rotations": "0"}}, "max_rotations is '0'"),
        ({"options": {"strategies": "ntk"}}, "strategies is 'ntk'; it must be 2 or more of interpolation"),
        ({"options": {"strategies": "ntk,ntk"}}, "strategies is 'ntk,ntk'"),
        ({"options": {"strategies": "ntk,periodic"}}, "strategies is 'ntk,periodic'"),
        ({"method": "abf", "options": {"base": "1"}}, "base is '1'"),
        ({"method": "abf", "options": {"base": "inf"}}, "base is 'inf'"),
        ({"method": "small-base", "options": {"base": "0"}}, "base is '0'"),
        (
            {"method": "yarn", "options": {"truncate": "maybe"}},
            "truncate is 'maybe'; it must be true or false",
        ),
        ({"method": "yarn", "options": {"mscale": "-1"}}, "mscale is '-1'"),
        ({"method": "yarn", "options": {"beta_fast": "1", "beta_slow": "2"}}, "beta_fast is 1"),
        ({"method": "yarn", "options": {"attention_factor": "0"}}, "attention_factor is '0'"),
    ],
)
def test_refusals_name_the_parameter_and_its_value(arguments: dict[str, object], named: str) -> None:
    call: dict[str, object] = {"method": "dprope", "target_length": 4096, **arguments}
    with pytest.raises(PlanError) as error:
        make_plan(SPEC, **call)  # type: ignore[arg-type]  # deliberately of any type
    assert named in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"n_rot": 63}, "n_rot"),
        ({"n_rot": 0}, "n_rot"),
        ({"base": 1.0}, "base is 1"),
        ({"base": math.inf}, "base is inf"),
        ({"train_length": 0}, "train_length is 0"),
        ({"n_layer": 0}, "n_layer is 0"),
        ({"own_factors": (1.0,)}, "own_factors has 1"),
        ({"own_factors": (0.0,) * 32}, "own_factors"),
        ({"own_attention_factor": 0.0}, "own_attention_factor is 0"),
    ],
)
def test_no_model_rotates_like_that(values: dict[str, object], named: str) -> None:
    whole: dict[str, object] = {
        "architecture": "llama",
        "n_rot": 64,
        "base": 10000.0,
        "train_length": 2048,
        "n_layer": 4,
        **values,
    }
    with pytest.raises(PlanError) as error:
        RopeSpec(**whole)  # type: ignore[arg-type]  # deliberately of any type
    assert named in str(error.value)


def test_periodic_map_without_a_pair_to_act_on_is_refused() -> None:
    fast = RopeSpec("llama", n_rot=8, base=10.0, train_length=4096, n_layer=1)
    with pytest.raises(PlanError, match="every pair of this model completes a turn"):
        make_plan(fast, "extra-pe", 8192)


@pytest.mark.parametrize(
    ("method", "options"), [("ntk", {}), ("dynamic-ntk", {}), ("dprope", {"strategies": "ntk,extrapolation"})]
)
def test_ntk_needs_two_pairs(method: str, options: dict[str, str]) -> None:
    spec = RopeSpec("llama", n_rot=2, base=10000.0, train_length=64, n_layer=1)
    with pytest.raises(PlanError, match="n_rot is 2"):
        make_plan(spec, method, 128, options=options)


def test_options_in_force_are_told_with_their_defaults() -> None:
    plan = make_plan(SPEC, "logn+dprope", 4096, options={"threshold": "0.05"})
    told = dict(item.split("=") for item in plan.options.split(","))
    assert told == {
        "threshold": "0.05",
        "interpolated_dims": "off",
        "bins": "360",
        "direction": "original-extended",
        "max_rotations": "off",
        "strategies": "interpolation/extrapolation",
    }


def test_told_options_make_the_same_plan_again() -> None:
    for method, options in (
        ("yarn", {"beta_fast": "16"}),
        ("dprope+windows", {"strategies": "ntk, extrapolation,yarn", "windows": "64 0,128/0"}),
        ("dynamic-ntk+logn", {"factor": "2", "step": "1.5"}),
        ("logn", {}),
    ):
        plan = make_plan(SPEC, method, 8192, options=options)
        assert make_plan(SPEC, plan.method, 8192, options=read_options(plan.options)) == plan


def test_told_options_are_read_whatever_their_values_hold() -> None:
    options = {"factors": "a,b c.json", "rule": "x", "list": "1/2"}
    assert read_options(tell_options(options)) == options
    assert read_options("") == {}


def test_notes_say_which_methods_need_fine_tuning() -> None:
    def noted(method: str, target: int) -> list[str]:
        return [note.split()[0] for note in finetuning_notes(make_plan(SPEC, method, target))]

    assert noted("extra-pe", 4096) == ["extra-pe"]
    assert noted("extra-mpe+logn", 4096) == ["extra-mpe"]
    assert noted("pi", 4096) == []
    assert noted("pi", 8192) == ["pi"]
    assert noted("dprope", 8192) == noted("yarn", 8192) == noted("logn", 8192) == []
    assert noted("extra-pe", 2048) == []
    assert noted("abf", 4096) == ["abf"]
    assert noted("small-base+windows", 4096) == ["small-base"]
    assert noted("dynamic-ntk+logn+windows", 8192) == noted("streaming", 8192) == []


def test_every_method_describes_itself() -> None:
    for name, info in METHODS.items():
        assert info.name == name
        assert info.summary and info.source
        assert info.needs_finetuning == bool(info.tuning)
        for option in info.options:
            assert option.parse(option.default) is not None
            assert option.allowed and option.source
