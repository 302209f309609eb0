"""The float64 readings of Gemma 3, Phi-3 and latent attention, against transformers' own models.

The library is compared with the same readings (`test_parity_gemma3` and the others), so that neither a
misreading shared with the library nor one shared with transformers alone can go unnoticed.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from method_oracles import ORACLES, none
from reference_gemma3 import ReferenceGemma3
from reference_mla import ReferenceMla
from reference_transformer import Float64, Positions, ReferenceTransformer, plain_frequencies
from tiny_gemma3 import PATTERN, write_tiny_gemma3
from tiny_mla import Form, TinyMla, write_tiny_mla
from tiny_models import Array, TinyModel
from tiny_phi3 import unfused as with_separate_projections
from tiny_phi3 import write_tiny_phi3
from transformers_oracle import oracle_module

LENGTH = 192
TOKENS = [int(token) for token in np.random.default_rng(3).integers(3, 200, LENGTH)]
TOLERANCE = 1e-4  # transformers computes angles in F32

NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_qkv": "self_attn.qkv_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_q_a": "self_attn.q_a_proj",
    "attn_q_a_norm": "self_attn.q_a_layernorm",
    "attn_q_b": "self_attn.q_b_proj",
    "attn_kv_a_mqa": "self_attn.kv_a_proj_with_mqa",
    "attn_kv_a_norm": "self_attn.kv_a_layernorm",
    "attn_kv_b": "self_attn.kv_b_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_gate_up": "mlp.gate_up_proj",
    "ffn_down": "mlp.down_proj",
}
GEMMA3_NAMES = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}


def sizes(model: TinyModel) -> dict[str, object]:
    """What every config says."""
    return {
        "vocab_size": model.n_vocab,
        "hidden_size": model.n_embd,
        "intermediate_size": model.n_ff,
        "num_hidden_layers": model.n_layer,
        "num_attention_heads": model.n_head,
        "num_key_value_heads": model.n_head_kv,
        "rms_norm_eps": model.rms_eps,
        "max_position_embeddings": LENGTH,
        "tie_word_embeddings": False,
        "pad_token_id": 0,
    }


def logits(kind: str, config: dict[str, object], tensors: dict[str, Array], names: dict[str, str]) -> Float64:
    """Logits of `TOKENS` in one pass, [tokens, vocabulary], by transformers in float64 on the CPU."""
    torch, transformers = oracle_module("torch"), oracle_module("transformers")
    made = transformers.AutoConfig.for_model(kind, **config)
    network = transformers.AutoModelForCausalLM.from_config(made, attn_implementation="eager").double().eval()
    state = {}
    for name, values in tensors.items():
        *layer, part = name.removesuffix(".weight").split(".")
        place = f"model.layers.{layer[1]}." if layer else ""
        state[f"{place}{names[part]}.weight"] = torch.from_numpy(np.ascontiguousarray(values, np.float64))
    missing, unexpected = network.load_state_dict(state, strict=False)
    assert not unexpected
    assert set(missing) <= {"lm_head.weight"}  # which may be the embedding
    with torch.no_grad():
        return np.asarray(network(torch.tensor([TOKENS]), use_cache=False).logits[0].numpy())


def difference(a: Float64, b: Float64) -> float:
    return float(np.abs(a - b).max())


@pytest.mark.parametrize("linear_factor", [1.0, 8.0])
def test_gemma3(linear_factor: float, tmp_path: Path) -> None:
    """Its norms are written as what they multiply by; transformers adds 1 to what a checkpoint has."""
    model = write_tiny_gemma3(tmp_path / "gemma3.gguf", linear_factor=linear_factor, seed=3)
    full: dict[str, object] = {"rope_type": "default", "rope_theta": model.rope_base}
    if linear_factor != 1.0:
        full |= {"rope_type": "linear", "factor": linear_factor}
    config = sizes(model) | {
        "head_dim": model.head_dim,
        "query_pre_attn_scalar": model.head_dim,
        "sliding_window": model.window,
        "sliding_window_pattern": PATTERN,
        "tie_word_embeddings": True,
        "rope_parameters": {
            "full_attention": full,
            "sliding_attention": {"rope_type": "default", "rope_theta": model.sliding_base},
        },
    }
    tensors = {name: values - ("norm" in name) for name, values in model.tensors.items()}
    expected = logits("gemma3_text", config, tensors, NAMES | GEMMA3_NAMES)

    def own(m: Float64) -> Positions:
        return Positions(np.outer(m / linear_factor, plain_frequencies(model)))

    assert difference(ReferenceGemma3(model).decode(TOKENS, own), expected) < TOLERANCE


def test_phi3(tmp_path: Path) -> None:
    model = write_tiny_phi3(tmp_path / "phi3.gguf", original_length=64, train_length=LENGTH, seed=3)
    config = sizes(model) | {
        "original_max_position_embeddings": model.original_length,
        "partial_rotary_factor": model.rope_dim / model.head_dim,
        "rope_theta": model.rope_base,
        "rope_scaling": {
            "rope_type": "longrope",
            "short_factor": list(model.short_factors),
            "long_factor": list(model.long_factors),
            "original_max_position_embeddings": model.original_length,
        },
    }
    tensors = {name: values for name, values in model.tensors.items() if "rope_factors" not in name}
    expected = logits("phi3", config, tensors, NAMES | {"ffn_up": NAMES["ffn_gate_up"]})

    def own(m: Float64) -> Positions:
        theta = plain_frequencies(model) / np.asarray(model.long_factors)
        return Positions(np.outer(m, theta), model.attention_factor)

    reference = ReferenceTransformer(with_separate_projections(model))
    assert difference(reference.decode(TOKENS, own), expected) < TOLERANCE


def latent_config(model: TinyMla) -> dict[str, object]:
    return sizes(model) | {
        "q_lora_rank": model.query_rank,
        "kv_lora_rank": model.key_value_rank,
        "qk_nope_head_dim": model.plain_dim,
        "qk_rope_head_dim": model.rope_dim,
        "v_head_dim": model.value_dim,
        "rope_theta": model.rope_base,
    }


def with_joined_projections(model: TinyMla) -> dict[str, Array]:
    """`attn_kv_b` in the place of the absorbed form's two tensors."""
    tensors = dict(model.tensors)
    for layer in range(model.n_layer if model.form == "absorbed" else 0):
        keys = tensors.pop(f"blk.{layer}.attn_k_b.weight").swapaxes(1, 2)
        values = tensors.pop(f"blk.{layer}.attn_v_b.weight")
        joined = np.concatenate([keys, values], axis=1).reshape(-1, model.key_value_rank)
        tensors[f"blk.{layer}.attn_kv_b.weight"] = joined
    return tensors


@pytest.mark.parametrize("form", ["absorbed", "expanded"])
def test_deepseek(form: Form, tmp_path: Path) -> None:
    model = write_tiny_mla(tmp_path / "deepseek2.gguf", form, seed=3)
    config = latent_config(model) | {"first_k_dense_replace": model.n_layer}
    expected = logits("deepseek_v3", config, with_joined_projections(model), NAMES)
    m = np.arange(LENGTH, dtype=np.float64)
    positions = none(model, LENGTH, m)
    assert difference(ReferenceMla(model).decode(TOKENS, lambda m: positions), expected) < TOLERANCE


def test_deepseeks_yarn_scales_the_whole_score(tmp_path: Path) -> None:
    """With `mscale` and `mscale_all_dim` of 1, as in DeepSeek-V3: its softmax scale times mscale squared."""
    model = write_tiny_mla(tmp_path / "deepseek2.gguf", "absorbed", train_length=64, seed=3)
    scaling = {
        "rope_type": "yarn",
        "factor": LENGTH / 64,
        "original_max_position_embeddings": 64,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
    }
    config = latent_config(model) | {"first_k_dense_replace": model.n_layer, "rope_scaling": scaling}
    expected = logits("deepseek_v3", config, with_joined_projections(model), NAMES)
    reference = ReferenceMla(model).decode(TOKENS, lambda m: ORACLES["yarn"](model, LENGTH, m))
    assert difference(reference, expected) < TOLERANCE
    rotated_only = write_tiny_mla(tmp_path / "expanded.gguf", "expanded", train_length=64, seed=3)
    other = ReferenceMla(rotated_only).decode(TOKENS, lambda m: ORACLES["yarn"](model, LENGTH, m))
    assert difference(other, expected) > 1000 * TOLERANCE


def test_minicpm3(tmp_path: Path) -> None:
    model = write_tiny_mla(tmp_path / "minicpm3.gguf", "minicpm3", seed=3)
    scale_depth = model.residual_scale * math.sqrt(model.n_layer)
    config = latent_config(model) | {
        "scale_emb": model.embedding_scale,
        "scale_depth": scale_depth,
        "dim_model_base": int(model.output_scale * model.n_embd),
    }
    expected = logits("minicpm3", config, model.tensors, NAMES)
    reference = ReferenceMla(model).decode(TOKENS, lambda m: none(model, LENGTH, m))
    assert difference(reference, expected) < TOLERANCE
