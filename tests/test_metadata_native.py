"""What llama.cpp's own keys say: judged by a separate reading of how llama.cpp turns keys into rotations."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gguf_files import write_rope_keys
from ropewalk_plan import (
    FileChanges,
    GgufHeader,
    ModelFacts,
    PositionMap,
    RopeSpec,
    make_plan,
    model_facts_from_gguf,
    plan_to_metadata,
)
from ropewalk_plan.architectures import READS_ROPE_FREQS, WITH_ROPE, WITHOUT_ROPE

TENSOR = "rope_freqs.weight"


def facts_for(
    spec: RopeSpec,
    *,
    original_length: int | None = None,
    scaling_type: str = "linear",
    has_factors: bool = False,
    sliding_window: int = 0,
    has_lists: bool = False,
    context_length: int | None = None,
) -> ModelFacts:
    return ModelFacts(
        architecture=spec.architecture,
        context_length=context_length or spec.train_length,
        original_length=original_length or spec.train_length,
        scaling_type=scaling_type,
        has_factors=has_factors,
        sliding_window=sliding_window,
        has_lists=has_lists,
    )


def plain_spec(arch: str, n_rot: int = 64, base: float = 10000.0, train_length: int = 2048) -> RopeSpec:
    return RopeSpec(arch, n_rot=n_rot, base=base, train_length=train_length, n_layer=2)


def stock_rotation(spec: RopeSpec, changes: FileChanges) -> tuple[np.ndarray, float]:
    """llama.cpp's inverse frequencies and attention factor for a plain model's file after `changes`."""
    arch, d = spec.architecture, spec.n_rot
    keys: dict[str, Any] = {entry.key.removeprefix(f"{arch}."): entry.value for entry in changes.keys}
    base = np.float32(keys.get("rope.freq_base", spec.base))
    theta = np.array([float(base) ** (-2.0 * i / d) for i in range(d // 2)])
    theta /= np.asarray(changes.tensors.get(TENSOR, (1.0,) * (d // 2)), dtype=np.float32)
    scale = float(np.float32(keys.get("rope.scaling.factor", 1.0)))
    attention = float(np.float32(keys.get("rope.scaling.attn_factor", 1.0)))
    if keys.get("rope.scaling.type", "linear") == "linear":
        return theta / scale, attention
    original = keys.get("rope.scaling.original_context_length", keys["context_length"])

    def dim(rotations: float) -> float:
        return d * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(base))

    low, high = max(0, math.floor(dim(32))), min(d - 1, math.ceil(dim(1)))
    ramp = 1 - np.clip((np.arange(d // 2) - low) / max(0.001, high - low), 0, 1)
    return theta / scale * (1 - ramp) + theta * ramp, attention * (0.1 * math.log(scale) + 1)


specs = st.builds(
    plain_spec,
    st.sampled_from(["llama", "qwen2", "qwen3", "phi3", "gptneox"]),
    n_rot=st.integers(2, 64).map(lambda n: 2 * n),
    base=st.floats(500.0, 5e6).map(lambda b: float(np.float32(b))),
    train_length=st.integers(128, 20000),
)


@settings(deadline=None)
@given(
    method=st.sampled_from(["pi", "ntk", "yarn", "dprope", "none"]), spec=specs, stretch=st.floats(1.0, 32.0)
)
def test_stock_rotates_a_native_file_as_the_plan_says(method: str, spec: RopeSpec, stretch: float) -> None:
    arch, n_rot = spec.architecture, spec.n_rot
    plan = make_plan(spec, method, math.ceil(spec.train_length * stretch))
    changes = plan_to_metadata(plan, spec, facts_for(spec))
    written = {entry.key: entry.value for entry in changes.keys}
    if not changes.native:
        assert method == "dprope" and arch != "llama"
        assert changes.tensors == {} and not changes.dropped
        assert all(key.startswith("ropewalk.") for key in written)
        return
    assert written[f"{arch}.context_length"] == plan.target_length
    theta, attention = stock_rotation(spec, changes)
    textbook = np.array([spec.base ** (-2.0 * i / n_rot) for i in range(n_rot // 2)])
    wanted = textbook / np.array(plan.frequency_factors or (1.0,) * (n_rot // 2))
    assert np.allclose(theta, wanted, rtol=1e-6)
    assert attention == pytest.approx(plan.attention_factor, rel=1e-6)


@pytest.mark.parametrize(
    ("arch", "method", "native", "says"),
    [
        ("llama", "none", True, "leaves the model's own rotation"),
        ("llama", "pi", True, "linear scaling"),
        ("llama", "ntk", True, "rotary base"),
        ("llama", "yarn", True, "YaRN"),
        ("llama", "dprope", True, "rope_freqs.weight"),
        ("qwen2", "dprope", False, "qwen2 reads no factors"),
        ("llama", "extra-pe", False, "periodic position map"),
        ("llama", "extra-mpe", False, "mirrored position map"),
        ("llama", "logn", False, "scaling queries"),
        ("llama", "dprope+logn", False, "scaling queries"),
        ("gemma2", "pi", False, "sliding layers"),
        ("gpt-oss", "yarn", False, "sliding layers"),
        ("deepseek2", "pi", False, "attention scores"),
        ("minicpm3", "pi", True, "linear scaling"),
        ("minicpm3", "yarn", False, "rotated part of a head"),
        ("grok", "yarn", False, "way of its own"),
        ("deepseek4", "ntk", False, "rules of its own"),
        ("glm-dsa", "none", False, "context length"),
    ],
)
def test_what_is_native_and_why(arch: str, method: str, native: bool, says: str) -> None:
    spec = plain_spec(arch)
    changes = plan_to_metadata(make_plan(spec, method, 8192), spec, facts_for(spec))
    assert changes.native is native
    assert says in changes.native_reason
    assert ("ropewalk.native", native) in [(entry.key, entry.value) for entry in changes.keys]


def test_the_form_follows_from_the_numbers_not_from_the_name() -> None:
    """DPRoPE that interpolates every pair is linear scaling."""
    spec = plain_spec("qwen2")
    plan = make_plan(spec, "dprope", 8192, options={"interpolated_dims": "64"})
    assert set(plan.frequency_factors) == {4.0}
    assert "linear" in plan_to_metadata(plan, spec, facts_for(spec)).native_reason


def test_yarn_with_other_betas_is_not_native_without_the_tensor() -> None:
    for arch, attention, native in (
        ("qwen2", "1", False),
        ("llama", "1", True),  # by the factors tensor
        ("llama", "auto", False),  # factors and an attention factor
    ):
        spec = plain_spec(arch)
        options = {"beta_fast": "16", "attention_factor": attention}
        changes = plan_to_metadata(make_plan(spec, "yarn", 8192, options=options), spec, facts_for(spec))
        assert changes.native is native
        assert bool(changes.tensors) is native


def test_attention_factor_of_another_size_is_written_for_yarn() -> None:
    spec = plain_spec("qwen2")
    changes = plan_to_metadata(
        make_plan(spec, "yarn", 8192, options={"attention_factor": "1"}), spec, facts_for(spec)
    )
    assert changes.native
    _, attention = stock_rotation(spec, changes)
    assert attention == pytest.approx(1.0)


def test_sliding_architectures_without_a_window_are_plain() -> None:
    spec = plain_spec("olmo2")
    plan = make_plan(spec, "pi", 8192)
    assert plan_to_metadata(plan, spec, facts_for(spec)).native
    assert not plan_to_metadata(plan, spec, facts_for(spec, sliding_window=4096)).native


def test_own_factors_tensor_is_replaced_and_own_scaling_dropped() -> None:
    own = tuple(float(f) for f in np.linspace(1, 8, 32, dtype=np.float32))
    spec = dataclasses.replace(plain_spec("llama"), own_factors=own)
    changes = plan_to_metadata(make_plan(spec, "pi", 8192), spec, facts_for(spec, has_factors=True))
    assert changes.tensors == {TENSOR: tuple(4 * f for f in own)}
    assert not [entry.key for entry in changes.keys if entry.key.startswith("llama.rope.scaling.f")]
    assert {"llama.rope.scaling.type", "llama.rope.scaling.factor"} <= changes.dropped


def test_switch_of_granites_rope_is_never_dropped() -> None:
    spec = plain_spec("granite")
    changes = plan_to_metadata(make_plan(spec, "dprope", 8192), spec, facts_for(spec))
    assert changes.native
    assert "granite.rope.scaling.finetuned" not in changes.dropped


def test_own_yarn_extended_further_by_yarn_keeps_no_stale_key() -> None:
    """A file that scales by linear 2, extended by PI x4: linear 8, and nothing left of the old keys."""
    spec = dataclasses.replace(plain_spec("qwen2", train_length=4096), own_factors=(2.0,) * 32)
    changes = plan_to_metadata(make_plan(spec, "pi", 16384), spec, facts_for(spec, original_length=2048))
    written = {entry.key: entry.value for entry in changes.keys}
    assert written["qwen2.rope.scaling.factor"] == 8.0
    assert "qwen2.rope.scale_linear" in changes.dropped
    assert "qwen2.rope.scaling.factor" not in changes.dropped


def test_longrope_files_stay_as_they_are_unless_only_lengthened() -> None:
    spec = plain_spec("phi3")
    facts = facts_for(spec, scaling_type="longrope")
    assert not plan_to_metadata(make_plan(spec, "pi", 8192), spec, facts).native
    assert plan_to_metadata(make_plan(spec, "none", 8192), spec, facts).native


@pytest.mark.parametrize("arch", ["phi3", "minicpm3", "llama"])
def test_lists_in_a_file_that_names_no_scaling_are_longropes_too(arch: str) -> None:
    """Upstream's converter writes no type beside Phi-3's: llama.cpp multiplies them with every form."""
    spec = plain_spec(arch)
    facts = facts_for(spec, has_lists=True)
    for method in ("pi", "ntk", "yarn", "dprope"):
        changes = plan_to_metadata(make_plan(spec, method, 8192), spec, facts)
        assert not changes.native
        assert "LongRoPE lists" in changes.native_reason
        assert all(entry.key.startswith("ropewalk.") for entry in changes.keys)
    long = dataclasses.replace(spec, own_factors=tuple(1.0 + i for i in range(32)))
    as_it_is = make_plan(long, "pi", 2048)  # the long list, for every size of the context
    assert as_it_is.schedule and not plan_to_metadata(as_it_is, long, facts).native
    assert plan_to_metadata(make_plan(long, "none", 8192), long, facts).native


def test_lists_count_where_the_architecture_reads_them(tmp_path: Path) -> None:
    lists = {name: np.ones(32, np.float32) for name in ("rope_factors_long.weight", TENSOR)}
    for arch, has in (("phi3", True), ("minicpm3", True), ("llama", True), ("qwen2", False)):
        path = write_rope_keys(tmp_path / f"{arch}.gguf", arch, tensors=lists)
        assert model_facts_from_gguf(GgufHeader.read(path)).has_lists is has
    plain = GgufHeader.read(write_rope_keys(tmp_path / "plain.gguf", "phi3"))
    assert not model_facts_from_gguf(plain).has_lists


@pytest.mark.parametrize(
    ("arch", "method", "facts", "own", "expected"),
    [
        ("qwen2", "dprope", {}, 1.0, 2048),
        ("qwen2", "logn", {}, 1.0, 2048),
        ("llama", "dynamic-ntk", {}, 1.0, 2048),
        ("gemma2", "pi", {}, 1.0, 2048),
        ("qwen2", "windows", {}, 1.0, None),  # stock goes on as the model was trained
        ("qwen2", "dprope", {"context_length": 2048}, 1.0, None),
        ("qwen2", "dprope", {}, 2.0, None),  # the file says how it was fine-tuned
        ("phi3", "pi", {"has_lists": True}, 1.0, None),
        ("glm-dsa", "pi", {}, 1.0, None),  # tells its versions apart by this key
        ("llama", "pi", {}, 1.0, 8192),  # native: in all of llama.cpp's own keys
    ],
)
def test_a_stock_build_is_told_the_length_it_can_run(
    arch: str, method: str, facts: dict[str, Any], own: float, expected: int | None
) -> None:
    """A file that says 8192, what a model of 2048 was fine-tuned to, and not how."""
    spec = dataclasses.replace(plain_spec(arch), own_factors=(own,) * 32)
    plan = make_plan(spec, method, 8192, 2048)
    changes = plan_to_metadata(plan, spec, facts_for(spec, **{"context_length": 8192, **facts}))
    written = {entry.key: entry.value for entry in changes.keys}
    assert changes.native == (expected == 8192)
    assert written.get(f"{arch}.context_length") == expected
    assert (written["ropewalk.train_length"], written["ropewalk.target_length"]) == (2048, 8192)


def test_lengthening_keeps_the_length_that_own_yarn_counts_from() -> None:
    spec = plain_spec("qwen2", train_length=8192)
    changes = plan_to_metadata(
        make_plan(spec, "none", 16384), spec, facts_for(spec, scaling_type="yarn", original_length=2048)
    )
    written = {entry.key: entry.value for entry in changes.keys}
    assert written["qwen2.rope.scaling.original_context_length"] == 2048


def test_architecture_tables_belong_together() -> None:
    assert not WITH_ROPE & WITHOUT_ROPE
    assert READS_ROPE_FREQS <= WITH_ROPE
    assert PositionMap() == make_plan(plain_spec("llama"), "pi", 4096).position_map
