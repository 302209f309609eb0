"""What a family's config leaves out, and how it writes things, against what transformers makes of it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from ropewalk_plan import RopeSpec, rope_spec_from_checkpoint
from ropewalk_plan.checkpoint_models import DEFAULTS, ROTATE_BY_LAYER_TYPE
from ropewalk_plan.plan import MAX_FACTOR
from transformers_oracle import Config, config_of, full_attention, oracle_module, rotation

SIZES: Config = {
    "hidden_size": 768,
    "num_attention_heads": 12,
    "num_key_value_heads": 12,
    "num_hidden_layers": 12,
    "max_position_embeddings": 8192,
}
WITHOUT_DEFAULTS = {"llama", "mistral", "qwen2", "qwen3_moe", "granite", "starcoder2", "olmo2", "exaone4"}
ELSEWHERE = {"chatglm", "gemma4", "gemma4_text"}  # code of its own; a config that says all of it, see below


def read(config: Config, folder: Path) -> RopeSpec:
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return rope_spec_from_checkpoint(folder)


@pytest.mark.parametrize("model_type", sorted((DEFAULTS.keys() | WITHOUT_DEFAULTS) - ELSEWHERE))
def test_defaults_of_a_family(model_type: str, tmp_path: Path) -> None:
    """A config of sizes only: base, head and the rotated share of it are the family's."""
    config: Config = {"model_type": model_type, **SIZES, "rope_parameters": {"rope_type": "default"}}
    made = config_of({"model_type": model_type, **SIZES})
    parameters = full_attention(made)
    head = getattr(made, "head_dim", None) or 768 // 12
    spec = read(config, tmp_path)
    assert spec.base == parameters["rope_theta"]
    assert spec.n_rot == int(head * float(str(parameters.get("partial_rotary_factor") or 1.0)))


@pytest.mark.parametrize("model_type", ["gemma3", "gemma3_text", "gemma3n_text"])
def test_context_length_of_families_that_leave_it_out(model_type: str, tmp_path: Path) -> None:
    config = {"model_type": model_type, "num_hidden_layers": 12}
    assert read(config, tmp_path).train_length == config_of(config).max_position_embeddings


LONG = [float(1 + i // 4) for i in range(48)]
PHI3: Config = {
    **SIZES,
    "model_type": "phi3",
    "hidden_size": 3072,
    "num_attention_heads": 32,
    "max_position_embeddings": 131072,
    "original_max_position_embeddings": 4096,
}
YARN: Config = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 1024}

PUBLISHED: dict[str, tuple[Config, str]] = {
    "Llama 3.1": (
        {
            **SIZES,
            "model_type": "llama",
            "rope_theta": 500000.0,
            "max_position_embeddings": 131072,
            "rope_scaling": {
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
                "rope_type": "llama3",
            },
        },
        "llama",
    ),
    "Gemma 3 with images": (
        {
            "model_type": "gemma3",
            "text_config": {
                "model_type": "gemma3_text",
                "hidden_size": 2560,
                "num_hidden_layers": 34,
                "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
                "sliding_window": 1024,
            },
            "vision_config": {"hidden_size": 1152, "num_attention_heads": 16},
        },
        "gemma3",
    ),
    "Gemma 3, per layer type": (
        {
            **SIZES,
            "model_type": "gemma3_text",
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0},
            },
        },
        "gemma3",
    ),
    "OLMo 3": ({**SIZES, "model_type": "olmo3", "rope_theta": 500000, "rope_scaling": YARN}, "olmo2"),
    "Phi 3, 128k": (
        {
            **PHI3,
            "rope_scaling": {
                "type": "su",
                "long_factor": LONG,
                "short_factor": [1.0] * 48,
                "original_max_position_embeddings": 4096,  # transformers 5.23 needs it here, for this name
            },
        },
        "phi3",
    ),
    "Phi 3, 128k, as longrope": (
        {**PHI3, "rope_scaling": {"type": "longrope", "long_factor": LONG, "short_factor": [1.0] * 48}},
        "phi3",
    ),
    "Phi 4 mini": (
        {
            **PHI3,
            "partial_rotary_factor": 0.75,
            "hidden_size": 4096,
            "rope_scaling": {"type": "longrope", "long_factor": LONG, "short_factor": [1.0] * 48},
        },
        "phi3",
    ),
    "DeepSeek V3": (
        {
            **SIZES,
            "model_type": "deepseek_v3",
            "qk_rope_head_dim": 64,
            "qk_nope_head_dim": 128,
            "max_position_embeddings": 163840,
            "rope_scaling": {
                "type": "yarn",
                "factor": 40,
                "original_max_position_embeddings": 4096,
                "beta_fast": 32,
                "beta_slow": 1,
                "mscale": 1.0,
                "mscale_all_dim": 0.707,
            },
        },
        "deepseek2",
    ),
    "gpt-oss": (
        {
            **SIZES,
            "model_type": "gpt_oss",
            "head_dim": 64,
            "rope_theta": 150000,
            "max_position_embeddings": 131072,
            "rope_scaling": {**YARN, "factor": 32.0, "truncate": False},
        },
        "gpt-oss",
    ),
    "Qwen 2.5 with YaRN": (
        {**SIZES, "model_type": "qwen2", "rope_theta": 1e6, "rope_scaling": {"type": "yarn", "factor": 4.0}},
        "qwen2",
    ),
    "MiniMax M2": (
        {
            **SIZES,
            "model_type": "minimax_m2",
            "head_dim": 128,
            "rotary_dim": 64,
            "rope_theta": 5e6,
            "rope_scaling": YARN,
        },
        "minimax-m2",
    ),
    "both the old key and the new": (
        {
            **SIZES,
            "model_type": "llama",
            "rope_theta": 500000.0,
            "rope_scaling": {"type": "linear", "factor": 2.0},
            "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e6},
        },
        "llama",
    ),
    "GPT-NeoX": (
        {
            **SIZES,
            "model_type": "gpt_neox",
            "rotary_pct": 0.5,
            "rotary_emb_base": 25000,
            "rope_scaling": {"type": "linear", "factor": 2.0},
        },
        "gptneox",
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_configs_as_published(name: str, tmp_path: Path) -> None:
    config, architecture = PUBLISHED[name]
    spec = read(config, tmp_path)
    inverse, attention_factor = rotation(config, spec.train_length)
    np.testing.assert_allclose(spec.frequencies, inverse, rtol=1e-6)
    assert spec.own_attention_factor == pytest.approx(attention_factor, rel=1e-6)
    assert spec.architecture == architecture
    assert not spec.is_plain


def test_gemma_4_lets_pairs_stand_still(tmp_path: Path) -> None:
    """Its full layers have a larger head, of which a quarter turns; a factor stands for a frequency of 0."""
    config: Config = {
        **SIZES,
        "model_type": "gemma4_text",
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            "full_attention": {
                "rope_type": "proportional",
                "partial_rotary_factor": 0.25,
                "rope_theta": 1000000.0,
            },
        },
    }
    spec = read(config, tmp_path)
    inverse, _ = rotation(config)
    assert spec.n_rot == 512
    np.testing.assert_allclose(spec.frequencies, inverse, rtol=1e-6, atol=1.0 / MAX_FACTOR)
    assert np.count_nonzero(inverse) == np.count_nonzero(np.array(spec.own_factors) == 1.0) == 64


def test_alpha_of_hunyuan_raises_the_base(tmp_path: Path) -> None:
    """Once and for all, though the config calls it dynamic; transformers does so in the model's own code."""
    config: Config = {
        **SIZES,
        "model_type": "hunyuan_v1_dense",
        "head_dim": 64,
        "rope_scaling": {"type": "dynamic", "alpha": 1000.0, "factor": 1.0},
    }
    spec = read(config, tmp_path)
    module = oracle_module("transformers.models.hunyuan_v1_dense.modeling_hunyuan_v1_dense")
    inverse = module.HunYuanDenseV1RotaryEmbedding(config_of(config)).inv_freq
    np.testing.assert_allclose(spec.frequencies, inverse.numpy(), rtol=1e-6)
    assert spec.own_scaling is None


def test_truncate_is_not_looked_for_in_a_layer_type(tmp_path: Path) -> None:
    """Families with parameters for each layer type ignore it, however it is written."""
    scaling = {**YARN, "truncate": False}
    for config in (
        {**SIZES, "model_type": "gemma3_text", "head_dim": 64, "rope_scaling": scaling},
        {**SIZES, "model_type": "olmo3", "rope_theta": 500000.0, "rope_scaling": scaling},
        {
            **SIZES,
            "model_type": "gemma3_text",
            "head_dim": 64,
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
                "full_attention": {**scaling, "rope_theta": 1e6},
            },
        },
    ):
        inverse, _ = rotation(config)
        np.testing.assert_allclose(read(config, tmp_path).frequencies, inverse, rtol=1e-6)


def test_families_that_rotate_by_layer_type() -> None:
    """However their config writes a scaling, transformers makes parameters for each layer type of it."""
    families = (DEFAULTS.keys() | ROTATE_BY_LAYER_TYPE | WITHOUT_DEFAULTS) - ELSEWHERE - {"phi3", "phimoe"}
    for model_type in sorted(families):
        made = config_of({"model_type": model_type, **SIZES, "rope_scaling": YARN})
        nested = any(isinstance(value, dict) for value in made.rope_parameters.values())
        assert nested == (getattr(made, "model_type", model_type) in ROTATE_BY_LAYER_TYPE), model_type


def test_sections_of_qwen_vl_change_no_frequency(tmp_path: Path) -> None:
    config: Config = {
        **SIZES,
        "model_type": "qwen2_vl",
        "rope_theta": 1e6,
        "rope_scaling": {"type": "mrope", "mrope_section": [8, 12, 12]},
    }
    spec = read(config, tmp_path)
    assert spec == RopeSpec("qwen2vl", n_rot=64, base=1e6, train_length=8192, n_layer=12)
    assert full_attention(config_of(config))["rope_type"] == "default"


def test_both_attention_factors_of_phi_moe(tmp_path: Path) -> None:
    """The long one at full length; transformers multiplies by it in the model and not in the initialiser."""
    scaling = {
        "type": "longrope",
        "long_factor": LONG[:32],
        "short_factor": [1.0] * 32,
        "long_mscale": 1.243163121016122,
        "short_mscale": 1.1,
        "original_max_position_embeddings": 4096,
    }
    config: Config = {**SIZES, "model_type": "phimoe", "rope_scaling": scaling}
    spec = read(config, tmp_path)
    inverse, _ = rotation(config, 8192)
    np.testing.assert_allclose(spec.frequencies, inverse, rtol=1e-6)
    assert spec.own_attention_factor == 1.243163121016122
    assert math.isclose(read({**config, "max_position_embeddings": 4096}, tmp_path).own_attention_factor, 1.1)
