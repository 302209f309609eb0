"""What a file says about its model's own rotation, and that methods extend a model from what it is."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from gguf_files import KeyValues, write_rope_keys
from ropewalk_plan import GgufHeader, PlanError, RopeSpec, make_plan, rope_spec_from_gguf

N_PAIRS = 32
FACTORS = np.linspace(1.0, 8.0, N_PAIRS, dtype=np.float32)


def spec_of(path: Path) -> RopeSpec:
    """Read by our header and by the `gguf` package's reader, which must agree."""
    spec = rope_spec_from_gguf(GgufHeader.read(path))
    assert rope_spec_from_gguf(GGUFReader(str(path))) == spec
    return spec


def yarn_factors(scale: float, original: int, fast: float = 32, slow: float = 1) -> np.ndarray:
    """Ggml's `rope_yarn` for d = 64 and base 10000, as frequency factors."""

    def dim(rotations: float) -> float:
        return 64 * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(10000))

    low, high = max(0, math.floor(dim(fast))), min(63, math.ceil(dim(slow)))
    ramp = 1 - np.clip((np.arange(N_PAIRS) - low) / max(0.001, high - low), 0, 1)
    return 1 / ((1 - ramp) / scale + ramp)


def test_a_plain_file(tmp_path: Path) -> None:
    spec = spec_of(write_rope_keys(tmp_path / "m.gguf", base=500000.0))
    assert spec == RopeSpec("llama", n_rot=64, base=500000.0, train_length=2048, n_layer=2)
    assert spec.is_plain


@pytest.mark.parametrize(
    ("keys", "factors", "attention_factor"),
    [
        ({"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}, 4.0, 1.0),
        ({"rope.scaling.factor": 4.0}, 4.0, 1.0),
        ({"rope.scale_linear": 2.0}, 2.0, 1.0),
        ({"rope.scaling.type": "none", "rope.scaling.factor": 4.0}, 1.0, 1.0),
        ({"rope.scaling.type": "linear", "rope.scaling.attn_factor": 1.5}, 1.0, 1.5),
        (
            {
                "rope.scaling.type": "yarn",
                "rope.scaling.factor": 4.0,
                "rope.scaling.original_context_length": 512,
            },
            yarn_factors(4, 512),
            0.1 * math.log(4) + 1,
        ),
        (
            {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.attn_factor": 0.5},
            yarn_factors(4, 2048),
            0.5 * (0.1 * math.log(4) + 1),
        ),
        (  # llama.cpp reads no betas for this architecture
            {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.yarn_beta_fast": 8.0},
            yarn_factors(4, 2048),
            0.1 * math.log(4) + 1,
        ),
    ],
)
def test_scaling_keys(
    tmp_path: Path, keys: KeyValues, factors: float | np.ndarray, attention_factor: float
) -> None:
    spec = spec_of(write_rope_keys(tmp_path / "m.gguf", keys=keys))
    assert np.allclose(spec.own_factors, factors, rtol=1e-12)
    assert spec.own_attention_factor == pytest.approx(attention_factor)


def test_mistral3_reads_betas_and_the_log_multiplier(tmp_path: Path) -> None:
    keys: KeyValues = {
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": 16.0,
        "rope.scaling.yarn_beta_fast": 4.0,
        "rope.scaling.yarn_log_multiplier": 1.0,
    }
    spec = spec_of(write_rope_keys(tmp_path / "m.gguf", "mistral3", keys=keys))
    assert np.allclose(spec.own_factors, yarn_factors(16, 2048, fast=4), rtol=1e-12)
    assert spec.own_attention_factor == pytest.approx(1.0)


def test_factors_tensor_counts_only_where_llama_cpp_uses_it(tmp_path: Path) -> None:
    tensors = {"rope_freqs.weight": FACTORS}
    used = spec_of(write_rope_keys(tmp_path / "llama.gguf", "llama", tensors=tensors))
    ignored = spec_of(write_rope_keys(tmp_path / "falcon.gguf", "falcon-h1", tensors=tensors))
    assert np.array_equal(used.own_factors, FACTORS)
    assert ignored.is_plain


def test_long_list_of_longrope(tmp_path: Path) -> None:
    tensors = {
        "rope_factors_long.weight": FACTORS,
        "rope_factors_short.weight": np.ones(N_PAIRS, np.float32),
    }
    keys = {"rope.scaling.attn_factor": 1.19}
    spec = spec_of(write_rope_keys(tmp_path / "phi.gguf", "phi3", keys=keys, tensors=tensors))
    assert np.array_equal(spec.own_factors, FACTORS)
    assert spec.own_attention_factor == pytest.approx(1.19)


def test_base_raised_by_alpha(tmp_path: Path) -> None:
    keys = {"rope.scaling.alpha": 1000.0}
    spec = spec_of(write_rope_keys(tmp_path / "h.gguf", "hunyuan-dense", keys=keys))
    assert spec.base == pytest.approx(10000.0 * 1000 ** (64 / 62), rel=1e-6)


@pytest.mark.parametrize(
    ("arch", "keys", "message"),
    [
        ("mamba", {}, "mamba has no RoPE"),
        ("gpt2", {}, "gpt2 has no RoPE"),
        ("granite", {"rope.scaling.finetuned": False}, "switched off"),
        ("unheard-of", {}, "unheard-of is unknown"),
    ],
)
def test_models_that_do_not_rotate_are_refused(
    tmp_path: Path, arch: str, keys: KeyValues, message: str
) -> None:
    path = write_rope_keys(tmp_path / "m.gguf", arch, keys=keys)
    with pytest.raises(PlanError, match=message):
        rope_spec_from_gguf(GgufHeader.read(path))


@pytest.mark.parametrize(
    "method",
    [
        "pi",
        "ntk",
        "ntk-by-parts",
        "yarn",
        "dprope",
        "abf",
        "small-base",
        "dynamic-ntk",
        "dynamic-yarn",
        "llama3",
    ],
)
def test_methods_multiply_what_the_model_has(method: str) -> None:
    """A uniformly scaled model by 4 is the plain model at a quarter of its positions."""
    plain = RopeSpec("llama", n_rot=64, base=10000.0, train_length=1024, n_layer=2)
    scaled = RopeSpec("llama", n_rot=64, base=10000.0, train_length=4096, n_layer=2, own_factors=(4.0,) * 32)
    plan_of_plain, plan_of_scaled = make_plan(plain, method, 2048), make_plan(scaled, method, 8192)
    of_plain = np.array(plan_of_plain.frequency_factors)
    of_scaled = np.array(plan_of_scaled.frequency_factors)
    assert plan_of_scaled.attention_factor == plan_of_plain.attention_factor
    if method == "dprope":  # not exactly: the scaled model has four times as many samples of each angle
        assert set(of_scaled) == {4.0, 8.0}
    else:
        assert np.allclose(of_scaled, 4 * of_plain, rtol=2.0**-22)


@pytest.mark.parametrize("method", ["dynamic-ntk", "dynamic-yarn"])
def test_a_schedule_begins_with_what_the_model_is(method: str) -> None:
    own = tuple(map(float, FACTORS))
    spec = RopeSpec("llama", 64, 10000.0, 4096, 2, own_factors=own, own_attention_factor=1.25)
    first, *_, last = make_plan(spec, method, 8192).schedule
    assert first.frequency_factors == own
    assert first.attention_factor == 1.25
    assert last.frequency_factors[-1] == pytest.approx(2 * own[-1])
    assert last.attention_factor >= 1.25


def test_turns_are_those_of_effective_frequencies() -> None:
    """YaRN and Extra-PE look for pairs by their turns; a scaled model makes fewer."""
    scaled = RopeSpec("llama", n_rot=64, base=10000.0, train_length=4096, n_layer=2, own_factors=(4.0,) * 32)
    assert scaled.pair_at_rotations(4096, 1.0) == pytest.approx(
        64 * math.log(1024 / (2 * math.pi)) / (2 * math.log(10000))
    )
    uneven = RopeSpec(
        "llama", n_rot=64, base=10000.0, train_length=4096, n_layer=2, own_factors=tuple(map(float, FACTORS))
    )
    turns = 4096 * uneven.frequencies / (2 * math.pi)
    for rotations in (0.5, 1.0, 7.0, 32.0):
        pair = uneven.pair_at_rotations(4096, rotations)
        assert turns[math.floor(pair)] >= rotations > turns[math.ceil(pair)]
    assert uneven.pair_at_rotations(4096, 1e6) < 0
    assert uneven.pair_at_rotations(4096, 1e-9) > 31


def test_own_attention_factor_is_kept() -> None:
    spec = RopeSpec("llama", n_rot=64, base=10000.0, train_length=4096, n_layer=2, own_attention_factor=1.25)
    assert make_plan(spec, "extra-pe", 8192).attention_factor == 1.25
    assert make_plan(spec, "pi", 8192).attention_factor == 1.25
    assert make_plan(spec, "yarn", 8192).attention_factor == pytest.approx(
        1.25 * (0.1 * math.log(2) + 1), rel=1e-7
    )
