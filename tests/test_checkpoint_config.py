"""A checkpoint's `config.json`: what is read of it, Qwen's first keys, and what is refused in which words."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from ropewalk_plan import PlanError, RopeSpec, rope_spec_from_checkpoint
from ropewalk_plan.rope_spec import OwnScaling

LLAMA: dict[str, object] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "max_position_embeddings": 4096,
}
QWEN: dict[str, object] = {
    "model_type": "qwen",
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "kv_channels": 128,
    "rotary_emb_base": 10000,
    "rotary_pct": 1.0,
    "seq_length": 8192,
    "max_position_embeddings": 32768,
    "use_dynamic_ntk": True,
    "use_logn_attn": True,
}
LONGROPE: dict[str, object] = {
    "rope_type": "longrope",
    "long_factor": [2.0] * 64,
    "short_factor": [1.0] * 64,
    "original_max_position_embeddings": 1024,
}


def read(folder: Path, config: object) -> RopeSpec:
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return rope_spec_from_checkpoint(folder)


def refusal(folder: Path, config: object) -> str:
    with pytest.raises(PlanError) as caught:
        read(folder, config)
    return str(caught.value)


def test_llama_2_as_published_says_no_base(tmp_path: Path) -> None:
    spec = read(tmp_path, LLAMA)
    assert spec == RopeSpec("llama", n_rot=128, base=10000.0, train_length=4096, n_layer=32)
    assert rope_spec_from_checkpoint(tmp_path / "config.json") == spec


def test_null_counts_as_absent(tmp_path: Path) -> None:
    with_nulls = {**LLAMA, "rope_scaling": None, "head_dim": None, "rope_theta": None}
    assert read(tmp_path, with_nulls) == read(tmp_path, LLAMA)


@pytest.mark.parametrize(
    ("flags", "scaling"),
    [
        ({}, OwnScaling("qwen-dynamic", original_length=8192, logn=True)),
        ({"use_logn_attn": False}, OwnScaling("qwen-dynamic", original_length=8192)),
        ({"use_dynamic_ntk": False}, OwnScaling("default", original_length=8192, logn=True)),
        ({"use_dynamic_ntk": False, "use_logn_attn": False}, None),
    ],
)
def test_qwens_first_checkpoints(
    tmp_path: Path, flags: dict[str, object], scaling: OwnScaling | None
) -> None:
    """Both act beyond `seq_length`, the length of training; `max_position_embeddings` is what they reach."""
    assert read(tmp_path, {**QWEN, **flags}) == RopeSpec(
        "qwen", n_rot=128, base=10000.0, train_length=8192, n_layer=32, own_scaling=scaling
    )


def test_parameters_of_each_form(tmp_path: Path) -> None:
    def scaling(**parameters: object) -> OwnScaling | None:
        return read(tmp_path, {**LLAMA, "rope_scaling": parameters}).own_scaling

    assert scaling(type="linear", factor=4) == OwnScaling("linear", factor=4.0)
    assert scaling(type="dynamic", factor=2.0) == OwnScaling("dynamic", factor=2.0, original_length=4096)
    assert scaling(type="yarn", factor=4.0, original_max_position_embeddings=1024) == OwnScaling(
        "yarn", factor=4.0, original_length=1024
    )
    assert scaling(type="llama3", factor=8.0, low_freq_factor=1, high_freq_factor=4) == OwnScaling(
        "llama3", factor=8.0, original_length=4096, low_freq_factor=1.0, high_freq_factor=4.0
    )
    assert scaling(**LONGROPE) == OwnScaling(
        "longrope", factor=4.0, original_length=1024, long_factors=(2.0,) * 64, short_factors=(1.0,) * 64
    )
    assert scaling(type="default") is None


@pytest.mark.parametrize(
    ("scaling", "train_length"),
    [
        ({"type": "linear", "factor": 4.0}, 4096),
        ({"type": "dynamic", "factor": 4.0}, 4096),
        ({"type": "yarn", "factor": 4.0}, 16384),  # Qwen 2.5 leaves max_position_embeddings as it was
        ({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}, 4096),
        ({"type": "yarn", "factor": 2.0, "original_max_position_embeddings": 1024}, 4096),
        (LONGROPE, 4096),
    ],
)
def test_length_the_checkpoint_is_good_for(
    tmp_path: Path, scaling: dict[str, object], train_length: int
) -> None:
    assert read(tmp_path, {**LLAMA, "rope_scaling": scaling}).train_length == train_length


def test_longrope_without_a_longer_length_keeps_the_short_list(tmp_path: Path) -> None:
    same = {**LONGROPE, "original_max_position_embeddings": 4096, "short_factor": [1.5] * 64}
    spec = read(tmp_path, {**LLAMA, "rope_scaling": same})
    assert set(spec.own_factors) == {1.5}
    assert spec.own_attention_factor == 1.0
    longer = read(tmp_path, {**LLAMA, "rope_scaling": LONGROPE})
    assert set(longer.own_factors) == {2.0}
    assert longer.own_attention_factor == pytest.approx(math.sqrt(1 + math.log(4) / math.log(1024)))


def test_length_before_scaling_outside_comes_first(tmp_path: Path) -> None:
    outside = {**LLAMA, "original_max_position_embeddings": 512, "rope_scaling": LONGROPE}
    scaling = read(tmp_path, outside).own_scaling
    assert scaling is not None
    assert (scaling.original_length, scaling.factor) == (512, 8.0)


def test_multimodal_configs(tmp_path: Path) -> None:
    text = {key: value for key, value in LLAMA.items() if key != "model_type"}
    for inside in ({"text_config": LLAMA}, {"llm_config": LLAMA}, {"thinker_config": {"text_config": LLAMA}}):
        assert read(tmp_path, {"model_type": "some_vision_model", **inside}) == read(tmp_path, LLAMA)
    nameless = {"model_type": "vision", "text_config": {**text, "rope_theta": 5e5}}
    assert read(tmp_path, nameless).architecture == "vision"


def test_layers_that_see_the_whole_context_count(tmp_path: Path) -> None:
    nested = {
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
    }
    spec = read(tmp_path, {**LLAMA, "model_type": "gemma3_text", "head_dim": 256, "rope_parameters": nested})
    assert (spec.base, spec.n_rot, set(spec.own_factors)) == (1e6, 256, {8.0})
    message = refusal(tmp_path, {**LLAMA, "rope_parameters": {**nested, "full_attention": None}})
    assert "rope_parameters.full_attention is null; it must be an object" in message


def test_a_training_crop_is_not_the_length_of_other_families(tmp_path: Path) -> None:
    assert read(tmp_path, {**LLAMA, "seq_length": 512}).train_length == 4096


def test_chatglm_multiplies_its_base(tmp_path: Path) -> None:
    config = {**LLAMA, "model_type": "chatglm", "kv_channels": 128, "rope_ratio": 50, "seq_length": 32768}
    del config["max_position_embeddings"]
    assert read(tmp_path, config) == RopeSpec(
        "chatglm", n_rot=64, base=500000.0, train_length=32768, n_layer=32
    )


def test_a_family_unknown_to_llama_cpp_keeps_its_name(tmp_path: Path) -> None:
    unknown = {**LLAMA, "model_type": "unheard_of"}
    assert read(tmp_path, {**unknown, "rope_theta": 5e5}).architecture == "unheard_of"
    assert "has no rope_theta" in refusal(tmp_path, unknown)


def scaled(**parameters: object) -> dict[str, object]:
    return {**LLAMA, "rope_scaling": parameters}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({**LLAMA, "head_dim": 127}, "head_dim gives 127 rotated dimensions of a head; they must be even"),
        ({**LLAMA, "head_dim": 0}, "head_dim is 0; it must be a whole number above 0"),
        ({**LLAMA, "hidden_size": 31}, "hidden_size / num_attention_heads gives 0 rotated dimensions"),
        (
            {**LLAMA, "head_dim": 6, "partial_rotary_factor": 0.5},
            "3 rotated dimensions of a head (of a",
        ),
        ({**LLAMA, "partial_rotary_factor": 2.0}, "partial_rotary_factor is 2.0; it must be a share"),
        ({**LLAMA, "rope_theta": 1.0}, "rope_theta is 1.0; it must be a number above 1"),
        ({**LLAMA, "rope_theta": "1e6"}, 'rope_theta is "1e6"; it must be a number above 1'),
        ({**LLAMA, "rope_theta": True}, "rope_theta is true; it must be a number above 1"),
        ({**LLAMA, "rope_theta": math.inf}, "rope_theta is Infinity; it must be a number above 1"),
        ({**LLAMA, "max_position_embeddings": 0}, "max_position_embeddings is 0; it must be a whole number"),
        ({**LLAMA, "max_position_embeddings": 1.5}, "max_position_embeddings is 1.5; it must be a whole"),
        ({**LLAMA, "num_hidden_layers": -1}, "num_hidden_layers is -1; it must be a whole number above 0"),
        (
            {**LLAMA, "num_attention_heads": None},
            "has no num_attention_heads; it, or head_dim, must",
        ),
        ({**LLAMA, "hidden_size": None}, "has no hidden_size; it, or head_dim, must be there"),
        ({**LLAMA, "max_position_embeddings": None}, "has no max_position_embeddings; it must be"),
        ({**LLAMA, "num_hidden_layers": None}, "has no num_hidden_layers; it must be"),
        ({**LLAMA, "model_type": None}, "has no model_type; name a checkpoint"),
        ({**LLAMA, "model_type": "gpt2"}, "the architecture gpt2 has no RoPE"),
        ({**LLAMA, "model_type": "falcon", "alibi": True}, "alibi is true; it must be false"),
        ({**LLAMA, "position_embedding_type": "nope"}, 'position_embedding_type is "nope"; it must be rope'),
        ({**LLAMA, "rope_scaling": "yarn"}, 'rope_scaling is "yarn"; it must be an object'),
        (scaled(type="ntk", factor=2), 'rope_scaling.type is "ntk"; it must be one of default, linear,'),
        (scaled(rope_type=3), "rope_scaling.rope_type is 3; it must be a string"),
        (scaled(type="linear"), "has no rope_scaling.factor; it must be a number above 0"),
        (scaled(type="dynamic", factor=0), "rope_scaling.factor is 0; it must be a number above 0"),
        (scaled(type="yarn"), "has no rope_scaling.factor"),
        (scaled(type="yarn", factor=2, truncate=1), "rope_scaling.truncate is 1; it must be true or false"),
        (
            scaled(type="yarn", factor=2, beta_fast=-1),
            "rope_scaling.beta_fast is -1; it must be a number",
        ),
        (
            scaled(type="yarn", factor=2, original_max_position_embeddings=-5),
            "rope_scaling.original_max_position_embeddings is -5; it must be a whole number above 0",
        ),
        (scaled(type="llama3", factor=8, low_freq_factor=1), "has no rope_scaling.high_freq_factor"),
        (scaled(type="llama3", factor=8, high_freq_factor=1), "has no rope_scaling.low_freq_factor"),
        (
            scaled(type="llama3", factor=8, high_freq_factor=1, low_freq_factor=2),
            "rope_scaling.high_freq_factor is 1; it must be at least low_freq_factor, which is 2",
        ),
        (scaled(type="longrope", factor=2), "has no rope_scaling.long_factor; it must be a list of 64"),
        (
            {**LLAMA, "rope_parameters": {**LONGROPE, "short_factor": [1.0] * 48}},
            "rope_parameters.short_factor is [1.0, 1.0, ",
        ),
        (
            {**LLAMA, "rope_parameters": {**LONGROPE, "long_factor": [-1.0] * 64}},
            "it must be a list of 64 numbers above 0",
        ),
        ({**QWEN, "use_logn_attn": "yes"}, 'use_logn_attn is "yes"; it must be true or false'),
    ],
)
def test_refusals_name_file_key_value_and_what_is_allowed(
    tmp_path: Path, config: dict[str, object], message: str
) -> None:
    said = refusal(tmp_path, config)
    assert message in said
    assert said.startswith(str(tmp_path / "config.json"))
    assert "\n" not in said
    assert len(said) < len(str(tmp_path)) + 300


def test_no_config(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"has no config\.json; name a folder that holds a checkpoint"):
        rope_spec_from_checkpoint(tmp_path)
    with pytest.raises(PlanError, match=r"missing is not there; name a checkpoint's folder"):
        rope_spec_from_checkpoint(tmp_path / "missing")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[" * 200_000, "is not JSON"),
        (b"[1, 2]", "holds no JSON object"),
        (b"", "is not JSON"),
    ],
)
def test_not_a_config(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(PlanError, match=message) as caught:
        rope_spec_from_checkpoint(tmp_path)
    assert "\n" not in str(caught.value)


def test_yarn_falls_back_to_the_ratio_of_lengths(tmp_path: Path) -> None:
    """Where `factor` is null, as transformers does for DeepSeek's kin."""
    without = read(tmp_path, scaled(type="yarn", factor=None, original_max_position_embeddings=1024))
    with_it = read(tmp_path, scaled(type="yarn", factor=4.0, original_max_position_embeddings=1024))
    assert without == with_it
    assert np.max(without.own_factors) == pytest.approx(4.0)
