"""Which plans are candidates for a model and a target: every method that applies, each effect once."""

from __future__ import annotations

import dataclasses

import pytest

from ropewalk.evaluation.candidates import candidates, find_candidates
from ropewalk.evaluation.plan_effect import plan_effect
from ropewalk_plan import METHODS, ModelFacts, OwnScaling, PlanError, PositionMap, RopeSpec, make_plan
from ropewalk_plan.compose import parse_method
from ropewalk_plan.methods import COMBINATIONS

SPEC = RopeSpec("llama", n_rot=64, base=100000.0, train_length=2048, n_layer=4)
FACTS = ModelFacts("llama", 2048, 2048, "linear", has_factors=False, sliding_window=0)


def labels(target: int) -> list[str]:
    return [plan.label for plan in find_candidates(SPEC, target).plans]


def test_the_plain_model_is_first_and_every_untuned_method_is_there_or_explained() -> None:
    found = find_candidates(SPEC, 8192)
    assert found.plans[0].label == "none"
    assert found.plans[0].plan is None
    named = {name for plan in found.plans for name in plan.method.split("+")}
    named |= {name for left_out in found.left_out for name in left_out.label.split(" ")[0].split("+")}
    assert named == set(METHODS)
    assert all(left_out.reason for left_out in found.left_out)


def test_methods_that_need_a_tuned_model_come_only_when_asked_for() -> None:
    untuned, tuned = find_candidates(SPEC, 8192), find_candidates(SPEC, 8192, finetuned=True)
    for plan in untuned.plans:
        assert all(info.untuned_scale >= 4 for info in parse_method(plan.method)), plan.label
    assert {"pi", "extra-pe", "extra-mpe", "small-base"} <= {plan.label for plan in tuned.plans}
    reason = next(left_out.reason for left_out in untuned.left_out if left_out.label == "extra-pe")
    assert "fine-tuned" in reason
    assert "--finetuned" in reason


def test_pi_is_tried_untuned_up_to_the_scale_of_its_paper() -> None:
    assert "pi" in labels(4096)
    assert "pi" not in labels(4097)


def test_thresholds_that_interpolate_the_same_pairs_are_one_candidate() -> None:
    swept = METHODS["dprope"].sweep["threshold"]
    assert len(swept) >= 5
    made = {value: make_plan(SPEC, "dprope", 8192, options={"threshold": value}).schedule for value in swept}
    kept = [plan for plan in find_candidates(SPEC, 8192).plans if plan.method == "dprope"]
    assert len(kept) == len(set(made.values())) < len(swept)
    merged = [left_out for left_out in find_candidates(SPEC, 8192).left_out if "dprope thr" in left_out.label]
    for left_out in merged:
        other = left_out.reason.removeprefix("the same plan as ")
        values = [label.partition("threshold=")[2] for label in (left_out.label, other)]
        assert made[values[0]] == made[values[1]]


def test_a_plan_that_interpolates_nothing_is_told_to_change_nothing() -> None:
    found = find_candidates(SPEC, 8192, methods=[("dprope", {"threshold": "50"}), ("ntk", {})])
    assert [plan.label for plan in found.plans] == ["none", "ntk"]
    (left_out,) = found.left_out
    assert left_out.label == "dprope threshold=50"
    assert "changes nothing" in left_out.reason


def test_what_cannot_be_made_is_listed_with_the_reason() -> None:
    found = find_candidates(SPEC, 8192, finetuned=True)
    reason = next(left_out.reason for left_out in found.left_out if left_out.label == "longrope")
    assert "lists" in reason
    own = OwnScaling("longrope", original_length=2048, long_factors=(2.0,) * 32, short_factors=(1.0,) * 32)
    spec = dataclasses.replace(SPEC, own_scaling=own)
    assert "longrope" in [plan.label for plan in find_candidates(spec, 8192, finetuned=True).plans]


def test_what_the_library_refuses_is_listed_with_its_reason() -> None:
    found = find_candidates(SPEC, 8192, refusal=lambda plan: "no windows here" if any(plan.windows) else None)
    assert not any(plan.plan is not None and plan.plan.windows for plan in found.plans)
    assert ("windows", "no windows here") in [(entry.label, entry.reason) for entry in found.left_out]


def test_a_method_asked_for_by_name_that_cannot_be_made_is_an_error() -> None:
    with pytest.raises(PlanError, match="threshold"):
        find_candidates(SPEC, 8192, methods=[("dprope", {"threshold": "much"})])


def test_nothing_is_a_candidate_where_nothing_is_extended() -> None:
    assert labels(2048) == ["none"]


def test_another_train_length_is_that_of_every_plan() -> None:
    plans = [plan.plan for plan in candidates(SPEC, FACTS, 8192, 1024) if plan.plan is not None]
    assert plans
    assert {plan.train_length for plan in plans} == {1024}
    assert "pi" not in [plan.method for plan in plans]  # 8 times L


def test_no_two_candidates_have_the_same_effect_at_every_length() -> None:
    plans = find_candidates(SPEC, 4096, finetuned=True).plans
    seen = [tuple(plan_effect(plan.plan, SPEC, n) for n in range(1024, 4097, 64)) for plan in plans]
    assert len(set(seen)) == len(seen)


def test_combinations_are_of_known_methods_that_compose() -> None:
    for combination in COMBINATIONS:
        assert len(parse_method(combination.method)) > 1
        make_plan(SPEC, combination.method, 8192, options=combination.options)


def test_sweeps_are_of_options_that_take_these_values() -> None:
    for info in METHODS.values():
        for name, values in info.sweep.items():
            option = next(option for option in info.options if option.name == name)
            assert all(option.parse(value) is not None for value in values)
            assert option.default in values


@pytest.mark.parametrize("length", [1000, 2048, 2049, 4000, 4096, 8192])
def test_a_dynamic_plan_has_the_effect_of_its_step(length: int) -> None:
    plan = make_plan(SPEC, "dynamic-yarn", 8192)
    step = next(step for step in plan.schedule if length <= step.up_to_length)
    effect = plan_effect(plan, SPEC, length)
    assert (effect.factors, effect.attention_factor) == (step.frequency_factors, step.attention_factor)
    assert (effect == plan_effect(None, SPEC, length)) == (length <= 2048)


def test_what_no_token_reaches_has_no_effect() -> None:
    plain = plan_effect(None, SPEC, 2048)
    for method in ("extra-pe", "extra-mpe", "logn", "windows"):
        plan = make_plan(SPEC, method, 8192)
        assert plan_effect(plan, SPEC, 2048) == plain, method
        assert plan_effect(plan, SPEC, 2060) != plain, method
    mapped = plan_effect(make_plan(SPEC, "extra-mpe", 8192), SPEC, 2049).position_map
    assert mapped != PositionMap()
