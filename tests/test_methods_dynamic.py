"""Dynamic NTK and dynamic YaRN: the steps, and each against a separate reading of the published code."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk_plan import OwnScaling, PlanError, RopeSpec, make_plan
from ropewalk_plan.attention_score import attention_scores

QWEN = RopeSpec("qwen", n_rot=128, base=10000.0, train_length=2048, n_layer=32)
F32 = 2.0**-23
DYNAMIC = [
    ("dynamic-ntk", {"form": "hf", "factor": "2"}),
    ("dynamic-ntk", {"form": "qwen"}),
    ("dynamic-yarn", {}),
]


def qwen_inverse_frequencies(length: int, seq_length: int, dim: int, base: float) -> np.ndarray:
    """What Qwen's modelling code turns by for a prompt of `length` tokens, read from its equations."""
    alpha = max(1, 2 ** math.ceil(math.log(length / seq_length, 2) + 1) - 1)
    raised = base * alpha ** (dim / (dim - 2))
    return np.array([raised ** (-i / dim) for i in range(0, dim, 2)])


@given(length=st.integers(1, 64 * 2048))
def test_qwens_form_agrees_with_its_published_code_at_every_length(length: int) -> None:
    plan = make_plan(QWEN, "dynamic-ntk", 64 * 2048, options={"form": "qwen"})
    step = next(step for step in plan.schedule if length <= step.up_to_length)
    got = QWEN.frequencies / np.array(step.frequency_factors)
    assert np.allclose(got, qwen_inverse_frequencies(length, 2048, 128, 10000.0), rtol=2 * F32)


def test_qwens_steps_are_powers_of_two() -> None:
    plan = make_plan(QWEN, "dynamic-ntk", 20000, options={"form": "qwen"})
    assert [step.up_to_length for step in plan.schedule] == [2048, 4096, 8192, 16384, 20000]
    assert [round(step.frequency_factors[-1]) for step in plan.schedule] == [1, 3, 7, 15, 31]


def test_qwens_logn_agrees_with_its_published_code() -> None:
    """Its list: log_L(i) for i > L, else 1, for i = 1 .. 32767; the query at position m takes entry m."""
    logn_list = [math.log(i, 2048) if i > 2048 else 1.0 for i in range(1, 32768)]
    distances = np.arange(32767)
    with_logn = attention_scores(make_plan(QWEN, "logn", 32768), QWEN, distances)
    without = attention_scores(make_plan(QWEN, "none", 32768), QWEN, distances)
    assert np.allclose(with_logn, without * logn_list, rtol=1e-9, atol=1e-9)
    assert not np.allclose(with_logn, without)


@given(
    st.integers(64, 9000), st.floats(1.0, 40.0), st.floats(1.0, 16.0), st.integers(2, 64), st.floats(100, 1e7)
)
def test_hf_form_at_the_end_of_every_step(
    train: int, stretch: float, factor: float, pairs: int, base: float
) -> None:
    d = 2 * pairs
    spec = RopeSpec("llama", n_rot=d, base=base, train_length=train, n_layer=2)
    plan = make_plan(spec, "dynamic-ntk", math.ceil(train * stretch), options={"factor": repr(factor)})
    for step in plan.schedule:
        raised = base * (factor * step.up_to_length / train - (factor - 1)) ** (d / (d - 2))
        theta = raised ** (-np.arange(0, d, 2) / d)
        got = base ** (-np.arange(0, d, 2) / d) / np.array(step.frequency_factors)
        assert np.allclose(got, theta, rtol=4 * F32)


@given(st.integers(2, 9000), st.floats(1.0, 300.0), st.floats(1.01, 4.0), st.sampled_from(DYNAMIC))
def test_steps_grow_geometrically_from_the_train_length_to_the_target(
    train: int, stretch: float, ratio: float, method: tuple[str, dict[str, str]]
) -> None:
    spec = RopeSpec("llama", n_rot=16, base=10000.0, train_length=train, n_layer=2)
    name, options = method
    if options.get("form") == "qwen":
        ratio = 2.0
    else:
        options = {**options, "step": repr(ratio)}
    target = math.ceil(train * stretch)
    plan = make_plan(spec, name, target, options=options)
    ends = [step.up_to_length for step in plan.schedule]
    assert ends[0] == train
    assert ends[-1] == target
    for before, after in pairwise(ends):
        assert before < after <= max(before * ratio, before + 1)
        if after != target:
            assert after > before * ratio - 1
    assert not plan.changes_within_train_length


@pytest.mark.parametrize(("method", "options"), DYNAMIC)
def test_no_step_interpolates_less_than_the_one_before(method: str, options: dict[str, str]) -> None:
    plan = make_plan(QWEN, method, 50000, options=options)
    factors = np.array([step.frequency_factors for step in plan.schedule])
    assert (np.diff(factors, axis=0) >= 0).all()
    assert (np.diff(factors, axis=1) >= 0).all()
    assert (factors[0] == 1).all()


def test_dynamic_yarn_is_yarn_at_the_length_of_each_step() -> None:
    options = {"beta_fast": "16", "mscale": "0.5", "mscale_all_dim": "1"}
    plan = make_plan(QWEN, "dynamic-yarn", 12000, options={**options, "step": "1.5"})
    assert [step.up_to_length for step in plan.schedule] == [2048, 3072, 4608, 6912, 10368, 12000]
    for step in plan.schedule:
        static = make_plan(QWEN, "yarn", step.up_to_length, options=options)
        assert step == static.schedule[-1]


@pytest.mark.parametrize(
    ("own", "options", "last_factor"),
    [
        (None, {}, 4.0),
        (OwnScaling("dynamic", factor=2.0), {}, 7.0),  # 2*4 - 1
        (OwnScaling("dynamic", factor=2.0), {"factor": "3"}, 10.0),
        (OwnScaling("linear", factor=2.0), {}, 4.0),  # another scaling's number
        (OwnScaling("qwen-dynamic"), {}, 7.0),  # alpha up to 4L
        (OwnScaling("qwen-dynamic"), {"form": "hf"}, 4.0),
        (OwnScaling("dynamic", factor=2.0), {"form": "qwen"}, 7.0),
    ],
)
def test_defaults_are_the_checkpoints(
    own: OwnScaling | None, options: dict[str, str], last_factor: float
) -> None:
    spec = RopeSpec("llama", 64, 10000.0, train_length=4096, n_layer=2, own_scaling=own)
    plan = make_plan(spec, "dynamic-ntk", 16384, options=options)
    assert plan.frequency_factors[-1] == pytest.approx(last_factor)


@pytest.mark.parametrize(
    ("method", "options", "named"),
    [
        ("dynamic-ntk", {"form": "qwen", "factor": "2"}, "option factor is 2"),
        ("dynamic-ntk", {"form": "qwen", "step": "1.5"}, "option step is 1.5"),
        ("dynamic-ntk", {"form": "both"}, "option form is 'both'; it must be auto, hf or qwen"),
        ("dynamic-ntk", {"factor": "0.5"}, "option factor is '0.5'"),
        ("dynamic-ntk", {"step": "1"}, "option step is '1'"),
        ("dynamic-yarn", {"step": "0"}, "option step is '0'"),
        ("dynamic-yarn", {"beta_fast": "1"}, "option beta_fast is 1"),
        ("dynamic-yarn", {"attention_factor": "1"}, "attention_factor=1"),
    ],
)
def test_refusals(method: str, options: dict[str, str], named: str) -> None:
    with pytest.raises(PlanError) as error:
        make_plan(QWEN, method, 8192, options=options)
    assert named in str(error.value)
