"""Llama 3's rule and LongRoPE's lists: against separate readings of transformers' equations."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk_plan import OwnScaling, PlanError, RopeSpec, make_plan

F32 = 2.0**-23
PLAIN = RopeSpec("llama", n_rot=128, base=500000.0, train_length=8192, n_layer=32)
PHI = RopeSpec("phi3", n_rot=8, base=10000.0, train_length=4096, n_layer=2)
SHORT, LONG = (1.0, 1.1, 1.2, 1.3), (1.0, 2.5, 20.0, 60.0)
PHI_LONG = RopeSpec(
    "phi3",
    n_rot=8,
    base=10000.0,
    train_length=131072,
    n_layer=2,
    own_factors=LONG,
    own_attention_factor=math.sqrt(1 + math.log(32) / math.log(4096)),
    own_scaling=OwnScaling("longrope", original_length=4096, short_factors=SHORT, long_factors=LONG),
)


def llama3_frequency(theta: float, factor: float, low: float, high: float, original: int) -> float:
    """Meta's rule by wavelength."""
    wavelength = 2 * math.pi / theta
    if wavelength < original / high:
        return theta
    if wavelength > original / low:
        return theta / factor
    smooth = (original / wavelength - low) / (high - low)
    return (1 - smooth) * theta / factor + smooth * theta


@given(
    factor=st.floats(1.0, 64.0),
    low=st.floats(0.5, 2.0),
    high=st.floats(2.5, 32.0),
    original=st.integers(512, 8192),
)
def test_llama3_is_metas_rule(factor: float, low: float, high: float, original: int) -> None:
    options = {
        "factor": repr(factor),
        "low_freq_factor": repr(low),
        "high_freq_factor": repr(high),
        "original_length": str(original),
    }
    factors = np.array(make_plan(PLAIN, "llama3", 65536, options=options).frequency_factors)
    expected = [llama3_frequency(theta, factor, low, high, original) for theta in PLAIN.frequencies]
    assert np.allclose(PLAIN.frequencies / factors, expected, rtol=2 * F32)
    assert (np.diff(factors) >= 0).all()


@pytest.mark.parametrize(
    ("own", "factor", "low", "high", "original"),
    [
        (None, 8.0, 1.0, 4.0, 8192),  # Llama 3.1
        (OwnScaling("llama3", 32.0, 4096, low_freq_factor=2.0, high_freq_factor=8.0), 32.0, 2.0, 8.0, 4096),
        (OwnScaling("yarn", 32.0, 4096), 8.0, 1.0, 4.0, 8192),  # another scaling's numbers
    ],
)
def test_llama3_defaults(
    own: OwnScaling | None, factor: float, low: float, high: float, original: int
) -> None:
    spec = RopeSpec("llama", 128, 500000.0, train_length=8192, n_layer=32, own_scaling=own)
    factors = np.array(make_plan(spec, "llama3", 131072).frequency_factors)
    expected = [llama3_frequency(theta, factor, low, high, original) for theta in spec.frequencies]
    assert np.allclose(spec.frequencies / factors, expected, rtol=2 * F32)


def test_llama3_extends_a_llama_3_checkpoint_from_what_it_is() -> None:
    own = OwnScaling("llama3", 8.0, 8192, low_freq_factor=1.0, high_freq_factor=4.0)
    scaled = [llama3_frequency(theta, 8, 1, 4, 8192) for theta in PLAIN.frequencies]
    spec = RopeSpec(
        "llama", 128, 500000.0, 131072, 32, tuple(PLAIN.frequencies / np.array(scaled)), own_scaling=own
    )
    plan = make_plan(spec, "llama3", 262144, options={"factor": "2"})
    expected = [llama3_frequency(theta, 2, 1, 4, 131072) for theta in scaled]
    assert np.allclose(PLAIN.frequencies / np.array(plan.frequency_factors), expected, rtol=2 * F32)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"factor": "0"}, "option factor is '0'"),
        ({"high_freq_factor": "1"}, "option high_freq_factor is 1"),
        ({"low_freq_factor": "5"}, "option high_freq_factor is 4; it must be above low_freq_factor"),
        ({"original_length": "0"}, "option original_length is '0'"),
        ({"original_length": "10.5"}, "option original_length is '10.5'"),
    ],
)
def test_llama3_refusals(options: dict[str, str], named: str) -> None:
    with pytest.raises(PlanError) as error:
        make_plan(PLAIN, "llama3", 65536, options=options)
    assert named in str(error.value)


def list_file(path: Path, content: object) -> str:
    path.write_text(json.dumps(content), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("within", [None, "rope_scaling", "rope_parameters"])
def test_longrope_with_lists_from_a_file(tmp_path: Path, within: str | None) -> None:
    lists: dict[str, object] = {"short_factor": SHORT, "long_factor": LONG}
    path = list_file(tmp_path / "lists.json", lists if within is None else {within: lists, "other": 1})
    plan = make_plan(PHI, "longrope", 131072, options={"factors": path})
    assert [step.up_to_length for step in plan.schedule] == [4096, 131072]
    assert np.allclose(plan.schedule[0].frequency_factors, SHORT, rtol=F32)
    assert np.allclose(plan.schedule[1].frequency_factors, LONG, rtol=F32)
    expected = math.sqrt(1 + math.log(32) / math.log(4096))
    assert [step.attention_factor for step in plan.schedule] == pytest.approx([expected] * 2, rel=F32)
    assert plan.options == "factors=lists.json,attention_factor=auto"  # not the folder: plans are passed on
    assert plan.changes_within_train_length


def test_longrope_with_an_attention_factor_of_its_own(tmp_path: Path) -> None:
    path = list_file(tmp_path / "lists.json", {"short_factor": SHORT, "long_factor": LONG})
    plan = make_plan(PHI, "longrope", 131072, options={"factors": path, "attention_factor": "1.25"})
    assert {step.attention_factor for step in plan.schedule} == {1.25}


def test_longrope_with_lists_that_the_checkpoint_knows_but_does_not_use() -> None:
    own = OwnScaling("longrope", original_length=4096, short_factors=SHORT, long_factors=LONG)
    spec = RopeSpec("phi3", 8, 10000.0, train_length=4096, n_layer=2, own_scaling=own)
    plan = make_plan(spec, "longrope", 131072)
    assert np.allclose(plan.schedule[0].frequency_factors, SHORT, rtol=F32)
    assert np.allclose(plan.schedule[1].frequency_factors, LONG, rtol=F32)
    assert plan.attention_factor == pytest.approx(math.sqrt(1 + math.log(32) / math.log(4096)), rel=F32)


@pytest.mark.parametrize(("target", "further"), [(65536, 1.0), (131072, 1.0), (262144, 2.0)])
def test_longrope_extends_a_longrope_checkpoint_from_what_it_is(target: int, further: float) -> None:
    """Up to its full length the very lists of its config, beyond that the long one interpolated further."""
    plan = make_plan(PHI_LONG, "longrope", target, train_length=4096)
    assert [step.up_to_length for step in plan.schedule] == [4096, target]
    assert np.allclose(plan.schedule[0].frequency_factors, SHORT, rtol=F32)
    assert np.allclose(plan.schedule[1].frequency_factors, further * np.array(LONG), rtol=F32)
    expected = math.sqrt(1 + math.log(max(target, 131072) / 4096) / math.log(4096))
    assert plan.attention_factor == pytest.approx(expected, rel=F32)


def test_longrope_at_scale_one_leaves_the_lists_to_the_file() -> None:
    assert make_plan(PHI_LONG, "longrope", 131072).schedule == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"short_factor": SHORT}, "must hold a JSON object with short_factor and long_factor"),
        ([1, 2], "must hold a JSON object"),
        ({"short_factor": SHORT, "long_factor": LONG[:3]}, "long_factor in .* has 3 numbers; it must have 4"),
        ({"short_factor": 2.0, "long_factor": LONG}, "short_factor in .* has no numbers"),
        ({"short_factor": (1, 1, 1, 0), "long_factor": LONG}, "short_factor in .* has 0; each must be"),
        ({"short_factor": (1, 1, 1, "a"), "long_factor": LONG}, "has 'a'; each must be a finite number"),
    ],
)
def test_lists_that_do_not_fit_are_refused(tmp_path: Path, content: object, message: str) -> None:
    path = list_file(tmp_path / "lists.json", content)
    with pytest.raises(PlanError, match=message):
        make_plan(PHI, "longrope", 8192, options={"factors": path})


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="longrope needs lists of factors"):
        make_plan(PHI, "longrope", 8192)
    with pytest.raises(PlanError, match="which cannot be read: No such file"):
        make_plan(PHI, "longrope", 8192, options={"factors": str(tmp_path / "none.json")})
    (tmp_path / "not.json").write_text("{", encoding="utf-8")
    with pytest.raises(PlanError, match="which is not JSON"):
        make_plan(PHI, "longrope", 8192, options={"factors": str(tmp_path / "not.json")})
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PlanError, match="which is not JSON"):
        make_plan(PHI, "longrope", 8192, options={"factors": str(tmp_path / "binary.json")})
