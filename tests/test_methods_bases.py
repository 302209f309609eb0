"""Another base, and YaRN's interpolation with all of its options: each against a separate reading."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk_plan import PlanError, RopeSpec, make_plan

LLAMA_2 = RopeSpec("llama", n_rot=128, base=10000.0, train_length=4096, n_layer=32)
F32 = 2.0**-23


@pytest.mark.parametrize(
    ("method", "options", "base"),
    [
        ("abf", {}, 1e6),  # Code Llama
        ("abf", {"base": "500000"}, 5e5),  # Xiong et al. 2023
        ("small-base", {}, 500.0),  # Liu et al. 2023
        ("small-base", {"base": "652"}, 652.0),
    ],
)
@pytest.mark.parametrize("target", [8192, 1_048_576])
def test_another_base_by_its_number(method: str, options: dict[str, str], base: float, target: int) -> None:
    plan = make_plan(LLAMA_2, method, target, options=options)
    theta = np.array([10000.0 ** (-2 * i / 128) / f for i, f in enumerate(plan.frequency_factors)])
    assert np.allclose(theta, [base ** (-2 * i / 128) for i in range(64)], rtol=2 * F32)
    assert plan.attention_factor == 1.0


def test_with_the_smallest_critical_base_every_pair_turns_within_the_train_length() -> None:
    """Liu et al. 2023: below L/(2 pi) all pairs complete a turn (in the limit of many pairs)."""
    plan = make_plan(LLAMA_2, "small-base", 8192, options={"base": f"{4096 / (2 * math.pi):g}"})
    theta = LLAMA_2.frequencies / np.array(plan.frequency_factors)
    assert 4096 * theta.min() >= 2 * math.pi
    assert 4096 * LLAMA_2.frequencies.min() < 2 * math.pi


@pytest.mark.parametrize(
    ("method", "base"), [("abf", "10000"), ("abf", "500"), ("small-base", "10000"), ("small-base", "2e6")]
)
def test_a_base_on_the_wrong_side_is_refused(method: str, base: str) -> None:
    with pytest.raises(PlanError, match=rf"option base is {float(base):.10g}; .*10000"):
        make_plan(LLAMA_2, method, 8192, options={"base": base})


@given(st.floats(1.01, 64.0))
def test_ntk_by_parts_is_yarn_without_its_attention_factor(stretch: float) -> None:
    target = math.ceil(4096 * stretch)
    parts, yarn = (make_plan(LLAMA_2, method, target) for method in ("ntk-by-parts", "yarn"))
    assert parts.frequency_factors == yarn.frequency_factors
    assert parts.attention_factor == 1.0 < yarn.attention_factor


@given(
    stretch=st.floats(1.0, 64.0),
    fast=st.floats(4.0, 64.0),
    slow=st.floats(0.5, 3.0),
    method=st.sampled_from(["ntk-by-parts", "yarn"]),
)
def test_without_truncation_the_ramp_lies_between_the_very_pairs(
    stretch: float, fast: float, slow: float, method: str
) -> None:
    target = math.ceil(4096 * stretch)
    options = {"beta_fast": repr(fast), "beta_slow": repr(slow), "truncate": "false"}
    plan = make_plan(LLAMA_2, method, target, options=options)
    scale = target / 4096

    def pair(turns: float) -> float:
        return 64 * math.log(4096 / (2 * math.pi * turns)) / math.log(10000)

    for i, factor in enumerate(plan.frequency_factors):
        kept = 1 - min(1.0, max(0.0, (i - pair(fast)) / (pair(slow) - pair(fast))))
        assert 1 / factor == pytest.approx((1 - kept) / scale + kept, rel=1e-6)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"mscale": "0.707", "mscale_all_dim": "1"}, lambda ln: (0.0707 * ln + 1) / (0.1 * ln + 1)),
        ({"mscale": "1", "mscale_all_dim": "1"}, lambda ln: 1.0),
        ({"mscale": "0.707"}, lambda ln: 0.1 * ln + 1),  # transformers takes both or none
        ({"mscale_all_dim": "0.707"}, lambda ln: 0.1 * ln + 1),
        ({"mscale": "0", "mscale_all_dim": "1"}, lambda ln: 0.1 * ln + 1),
        ({"mscale": "2", "mscale_all_dim": "1", "attention_factor": "1.5"}, lambda ln: 1.5),
    ],
)
def test_mscale_as_transformers_reads_it(options: dict[str, str], expected: object) -> None:
    assert callable(expected)
    plan = make_plan(LLAMA_2, "yarn", 40 * 4096, options=options)
    assert plan.attention_factor == pytest.approx(expected(math.log(40)), rel=F32)
