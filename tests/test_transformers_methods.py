"""Our methods against transformers' own initialisers, on random models that have no scaling yet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from rope_configs import JsonObject, scaled_configs
from ropewalk_plan import ContextPlan, RopeSpec, make_plan, rope_spec_from_checkpoint
from ropewalk_plan.plan import ScheduleStep
from transformers_oracle import rotation

TOLERANCE = 1e-6
LOSES_IN_FLOAT32 = 1e-5
"""See test_transformers_checkpoints."""

ENOUGH = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
METHOD_OPTIONS = {
    "yarn": ("attention_factor", "mscale", "mscale_all_dim", "beta_fast", "beta_slow", "truncate"),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
    "longrope": ("attention_factor",),
}
"""Options that have the name of the config's parameter."""


def parameters_of(config: Mapping[str, object]) -> dict[str, object]:
    """The scaling's parameters in whichever way the config writes them."""
    parameters = config.get("rope_scaling") or config.get("rope_parameters")
    assert isinstance(parameters, dict)
    return parameters


def number(parameters: Mapping[str, object], name: str, default: float = 0) -> float:
    value = parameters.get(name, default)
    assert isinstance(value, (int, float))
    return value


def plain_model(config: JsonObject, folder: Path, length: int) -> RopeSpec:
    """The same model before any scaling, trained on `length` tokens."""
    unscaled = {key: value for key, value in config.items() if key not in ("rope_scaling", "rope_parameters")}
    rotary = {
        key: value
        for key, value in parameters_of(config).items()
        if key in ("rope_theta", "partial_rotary_factor")
    }
    path = folder / "config.json"
    path.write_text(json.dumps({**unscaled, **rotary, "max_position_embeddings": length}), encoding="utf-8")
    spec = rope_spec_from_checkpoint(path)
    assert spec.is_plain
    return spec


def options_of(method: str, parameters: Mapping[str, object]) -> dict[str, str]:
    """A method's options, said as one types them."""
    given_parameters = {name: parameters.get(name) for name in METHOD_OPTIONS[method]}
    return {
        name: str(value).lower() if isinstance(value, bool) else repr(value)
        for name, value in given_parameters.items()
        if value is not None
    }


def assert_same(spec: RopeSpec, step: ScheduleStep, config: JsonObject, length: int, ramps: bool) -> None:
    """One step of a plan's schedule against transformers at `length` tokens."""
    textbook = spec.base ** (-2.0 * np.arange(spec.n_pairs) / spec.n_rot)
    ours = textbook / np.array(step.frequency_factors)
    inverse, attention_factor = rotation(config, length, doubles=ramps)
    np.testing.assert_allclose(ours, inverse, rtol=TOLERANCE)
    assert step.attention_factor == pytest.approx(attention_factor, rel=TOLERANCE)
    if ramps:
        np.testing.assert_allclose(ours, rotation(config, length)[0], rtol=LOSES_IN_FLOAT32)


def whole_factor(config: JsonObject) -> JsonObject:
    """The config with a factor that a length in tokens is an exact multiple by."""
    key = "rope_scaling" if "rope_scaling" in config else "rope_parameters"
    parameters = parameters_of(config)
    return {**config, key: {**parameters, "factor": max(1, round(number(parameters, "factor", 1)))}}


@ENOUGH
@given(data=st.data())
def test_pi_is_linear(tmp_path: Path, data: st.DataObject) -> None:
    config = whole_factor(data.draw(scaled_configs("linear")))
    length = int(number(config, "max_position_embeddings"))
    spec = plain_model(config, tmp_path, length)
    target = length * int(number(parameters_of(config), "factor"))
    plan = make_plan(spec, "pi", target)
    assert_same(spec, plan.schedule[-1], config, target, ramps=False)


@ENOUGH
@given(data=st.data())
def test_yarn_with_every_option(tmp_path: Path, data: st.DataObject) -> None:
    config = whole_factor(data.draw(scaled_configs("yarn")))
    parameters = parameters_of(config)
    fast, slow = number(parameters, "beta_fast", 32), number(parameters, "beta_slow", 1)
    assume(fast > slow)  # both 8 is a ramp of no width, which the method refuses
    original = int(
        number(parameters, "original_max_position_embeddings") or number(config, "max_position_embeddings")
    )
    spec = plain_model(config, tmp_path, original)
    target = original * int(number(parameters, "factor"))
    plan = make_plan(spec, "yarn", target, options=options_of("yarn", parameters))
    assert_same(spec, plan.schedule[-1], config, target, ramps=True)


@ENOUGH
@given(data=st.data())
def test_llama3(tmp_path: Path, data: st.DataObject) -> None:
    config = data.draw(scaled_configs("llama3"))
    parameters = parameters_of(config)
    original = int(number(parameters, "original_max_position_embeddings"))
    spec = plain_model(config, tmp_path, original)
    plan = make_plan(spec, "llama3", 16 * original, options=options_of("llama3", parameters))
    assert_same(spec, plan.schedule[-1], config, 16 * original, ramps=True)


@ENOUGH
@given(data=st.data())
def test_dynamic_ntk_at_the_end_of_every_step(tmp_path: Path, data: st.DataObject) -> None:
    """Each step has what transformers computes for a sequence as long as the step reaches."""
    config = data.draw(scaled_configs("dynamic"))
    spec = plain_model(config, tmp_path, int(number(config, "max_position_embeddings")))
    target = int(spec.train_length * data.draw(st.floats(1.1, 16.0)))
    options = {
        "form": "hf",
        "factor": repr(number(parameters_of(config), "factor")),
        "step": repr(data.draw(st.floats(1.25, 4.0))),
    }
    plan = make_plan(spec, "dynamic-ntk", target, options=options)
    assert plan.schedule[0].up_to_length == spec.train_length
    assert len(plan.schedule) >= 2
    for step in plan.schedule:
        assert_same(spec, step, config, step.up_to_length, ramps=False)


@ENOUGH
@given(data=st.data())
def test_longrope_from_a_file_of_lists(tmp_path: Path, data: st.DataObject) -> None:
    """On a plain model, with the checkpoint's config as the file: short up to L, long beyond."""
    config = whole_factor(data.draw(scaled_configs("longrope")))
    parameters = parameters_of(config)
    original = int(
        number(parameters, "original_max_position_embeddings") or number(config, "max_position_embeddings")
    )
    target = original * int(number(parameters, "factor"))
    assume(target > original)  # where nothing is extended the method leaves the model as it is
    spec = plain_model(config, tmp_path, original)
    lists = tmp_path / "lists.json"
    lists.write_text(json.dumps(config), encoding="utf-8")
    options = {"factors": str(lists), **options_of("longrope", parameters)}
    plan = make_plan(spec, "longrope", target, options=options)
    assert_steps(spec, plan, config, original)


@ENOUGH
@given(data=st.data())
def test_longrope_of_the_checkpoint_itself(tmp_path: Path, data: st.DataObject) -> None:
    """From its length before the scaling to its full length: what it already is, as a plan."""
    config = data.draw(scaled_configs("longrope"))
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    spec = rope_spec_from_checkpoint(tmp_path)
    assert spec.own_scaling is not None
    original = spec.own_scaling.original_length
    assert original is not None
    assume(spec.train_length > original)
    plan = make_plan(spec, "longrope", spec.train_length, train_length=original)
    assert_steps(spec, plan, config, original)


def assert_steps(spec: RopeSpec, plan: ContextPlan, config: JsonObject, original: int) -> None:
    short, long = plan.schedule
    assert short.up_to_length == original
    assert_same(spec, short, config, original, ramps=False)
    assert_same(spec, long, config, original + 1, ramps=False)
    assert_same(spec, long, config, long.up_to_length, ramps=False)
