"""What a checkpoint's `model_type` says beyond its config: llama.cpp's name for it, transformers' defaults.

The names are those of the pinned llama.cpp's converter, the defaults those of transformers 5.23; the tests
compare the defaults with transformers itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ropewalk_plan import architectures

_ARCHITECTURES: Mapping[str, str] = {
    "bamba": "granitehybrid",
    "cohere": "command-r",
    "cohere2_moe": "cohere2moe",
    "deepseek_v2": "deepseek2",
    "deepseek_v3": "deepseek2",
    "deepseek_v32": "deepseek32",
    "deepseek_v4": "deepseek4",
    "distilbert": "bert",
    "dots3_note": "dots3note",
    "dots3_note_text": "dots3note",
    "ernie4_5_moe": "ernie4_5-moe",
    "exaone4_5": "exaone4",
    "exaone_moe": "exaone-moe",
    "falcon_h1": "falcon-h1",
    "falcon_mamba": "mamba",
    "gemma3_text": "gemma3",
    "gemma3n_text": "gemma3n",
    "gemma4_assistant": "gemma4-assistant",
    "gemma4_text": "gemma4",
    "gemma4_unified": "gemma4",
    "gemma4_unified_text": "gemma4",
    "glm": "chatglm",
    "glm4_moe": "glm4moe",
    "glm4_moe_lite": "deepseek2",
    "glm4v": "glm4",
    "glm4v_moe": "glm4moe",
    "glm5_next": "glm5-next",
    "glm_moe_dsa": "glm-dsa",
    "glm_ocr": "glm4",
    "gpt_bigcode": "starcoder",
    "gpt_neox": "gptneox",
    "gpt_oss": "gpt-oss",
    "granitemoe_swa": "granite_swa",
    "granitemoehybrid": "granitehybrid",
    "granitemoeshared": "granitemoe",
    "hunyuan_v1_dense": "hunyuan-dense",
    "hunyuan_v1_moe": "hunyuan-moe",
    "internlm3": "llama",
    "kimi_linear": "kimi-linear",
    "lfm2_moe": "lfm2moe",
    "llama4_text": "llama4",
    "mimo_v2_flash": "mimo2",
    "minimax_m2": "minimax-m2",
    "minimax_m3_vl": "minimax-m3",
    "ministral3": "mistral3",
    "mistral": "llama",
    "mixtral": "llama",
    "modernbert": "modern-bert",
    "muse_glimmer": "muse-glimmer",
    "olmo3": "olmo2",
    "paddleocr_vl": "paddleocr",
    "phi": "phi2",
    "pocket_tts": "pockettts",
    "qwen2_5_vl": "qwen2vl",
    "qwen2_5_vl_text": "qwen2vl",
    "qwen2_moe": "qwen2moe",
    "qwen2_vl": "qwen2vl",
    "qwen2_vl_text": "qwen2vl",
    "qwen3_5": "qwen35",
    "qwen3_5_moe": "qwen35moe",
    "qwen3_5_moe_text": "qwen35moe",
    "qwen3_5_text": "qwen35",
    "qwen3_moe": "qwen3moe",
    "qwen3_next": "qwen3next",
    "qwen3_vl": "qwen3vl",
    "qwen3_vl_text": "qwen3vl",
    "qwen3_vl_moe": "qwen3vlmoe",
    "qwen3_vl_moe_text": "qwen3vlmoe",
    "qwen4_exp": "qwen4exp",
    "qwen4_exp_text": "qwen4exp",
    "roberta": "bert",
    "solar_open": "glm4moe",
    "umt5": "t5",
    "xlm-roberta": "bert",
    "youtu": "deepseek2",
}
"""`model_type` to `general.architecture` where the two differ."""


@dataclass(frozen=True)
class ModelDefaults:
    """What transformers takes where a config leaves a key out.

    Attributes:
        rope_theta: the rotary base.
        partial_rotary_factor: the rotated share of a head.
        head_dim: a head's dimensions; None: `hidden_size / num_attention_heads`.
        full_head_dim: the same in the layers that see the whole context, where they have their own.
        max_position_embeddings: the context length, for families whose configs leave it out.
        original_length: the length before a scaling, for families whose configs leave it out.
    """

    rope_theta: float = 10000.0
    partial_rotary_factor: float = 1.0
    head_dim: int | None = None
    full_head_dim: int | None = None
    max_position_embeddings: int | None = None
    original_length: int | None = None


_GEMMA4 = ModelDefaults(head_dim=256, full_head_dim=512, max_position_embeddings=131072)

DEFAULTS: Mapping[str, ModelDefaults] = {
    "afmoe": ModelDefaults(head_dim=128),
    "apertus": ModelDefaults(rope_theta=12e6),
    "bamba": ModelDefaults(partial_rotary_factor=0.5),
    "bitnet": ModelDefaults(rope_theta=500000.0),
    "chatglm": ModelDefaults(partial_rotary_factor=0.5),
    "cohere": ModelDefaults(rope_theta=500000.0),
    "cohere2_moe": ModelDefaults(head_dim=128),
    "ernie4_5": ModelDefaults(rope_theta=500000.0, head_dim=128),
    "ernie4_5_moe": ModelDefaults(rope_theta=500000.0),
    "falcon": ModelDefaults(max_position_embeddings=2048),
    "gemma": ModelDefaults(head_dim=256),
    "gemma2": ModelDefaults(head_dim=256),
    "gemma3": ModelDefaults(rope_theta=1e6, head_dim=256, max_position_embeddings=131072),
    "gemma3_text": ModelDefaults(rope_theta=1e6, head_dim=256, max_position_embeddings=131072),
    "gemma3n": ModelDefaults(rope_theta=1e6, head_dim=256, max_position_embeddings=32768),
    "gemma3n_text": ModelDefaults(rope_theta=1e6, head_dim=256, max_position_embeddings=32768),
    "gemma4": _GEMMA4,
    "gemma4_text": _GEMMA4,
    "glm": ModelDefaults(partial_rotary_factor=0.5, head_dim=128),
    "glm4": ModelDefaults(partial_rotary_factor=0.5, head_dim=128),
    "glm4_moe": ModelDefaults(partial_rotary_factor=0.5),
    "gpt_neox": ModelDefaults(partial_rotary_factor=0.25),
    "gpt_oss": ModelDefaults(rope_theta=150000.0, head_dim=64),
    "hrm_text": ModelDefaults(head_dim=128),
    "hy_v3": ModelDefaults(rope_theta=11158840.0, head_dim=128),
    "internlm3": ModelDefaults(head_dim=128),
    "lfm2": ModelDefaults(rope_theta=1e6),
    "lfm2_moe": ModelDefaults(rope_theta=1e6),
    "llama4_text": ModelDefaults(rope_theta=500000.0, head_dim=128),
    "minimax_m2": ModelDefaults(rope_theta=5e6, head_dim=128),
    "ministral3": ModelDefaults(rope_theta=1e6, head_dim=128),
    "mixtral": ModelDefaults(rope_theta=1e6),
    "modernbert": ModelDefaults(rope_theta=160000.0),
    "nemotron": ModelDefaults(partial_rotary_factor=0.5),
    "olmo3": ModelDefaults(rope_theta=500000.0),
    "phi": ModelDefaults(partial_rotary_factor=0.5),
    "phi3": ModelDefaults(original_length=4096),
    "phimoe": ModelDefaults(rope_theta=1e6),
    "qwen2_5_vl": ModelDefaults(rope_theta=1e6),
    "qwen2_5_vl_text": ModelDefaults(rope_theta=1e6),
    "qwen2_vl": ModelDefaults(rope_theta=1e6),
    "qwen2_vl_text": ModelDefaults(rope_theta=1e6),
    "qwen3": ModelDefaults(head_dim=128),
    "qwen3_5_moe_text": ModelDefaults(partial_rotary_factor=0.25, head_dim=256),
    "qwen3_5_text": ModelDefaults(partial_rotary_factor=0.25, head_dim=256),
    "qwen3_next": ModelDefaults(partial_rotary_factor=0.25, head_dim=256),
    "qwen3_vl_moe_text": ModelDefaults(rope_theta=500000.0),
    "qwen3_vl_text": ModelDefaults(rope_theta=500000.0, head_dim=128),
    "seed_oss": ModelDefaults(head_dim=128),
    "smollm3": ModelDefaults(rope_theta=2e6),
    "solar_open": ModelDefaults(rope_theta=1e6, head_dim=128),
    "stablelm": ModelDefaults(partial_rotary_factor=0.25),
}
"""By `model_type`; a family that is not in it has the class's own, `ModelDefaults()`."""


ROTATE_BY_LAYER_TYPE = frozenset(
    {"deepseek_v4", "dots3_note_text", "gemma3_text", "gemma3n_text", "modernbert", "olmo3", "step3p5"}
)
"""Families whose layer types have parameters of their own in transformers, however a config writes them; a
scaling is then that of the layers that see the whole context."""


ONE_ROTATION = frozenset({"afmoe", "cohere2", "cohere2_moe", "exaone4", "exaone_moe", "gemma2", "gpt_oss"})
"""Families with natively sliding layers that transformers turns by the same frequencies as the others."""


def defaults_of(model_type: str) -> ModelDefaults:
    """What transformers takes for keys that a config of this `model_type` leaves out."""
    return DEFAULTS.get(model_type, ModelDefaults())


def architecture_of(model_type: str, text_model_type: str) -> str:
    """GGUF's `general.architecture` for a checkpoint; its `model_type` where llama.cpp knows none.

    Args:
        model_type: that of the whole checkpoint.
        text_model_type: that of its language model, the same where it is nothing else.
    """
    for known in (model_type, text_model_type):
        name = _ARCHITECTURES.get(known, known)
        if architectures.is_known(name):
            return name
    return text_model_type
