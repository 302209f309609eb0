"""From a config to logits: transformers' models with a scaling, and the NumPy reference with our factors.

It is the conventions that are checked here: which way a factor divides, what the attention factor multiplies,
which pairs a share of the head leaves out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from reference_transformer import Float64, Positions, plain_positions, reference_logits
from ropewalk_plan import RopeSpec, make_plan, rope_spec_from_checkpoint
from tiny_models import TinyModel, write_tiny_model
from transformers_oracle import oracle_module

L = 64
TARGET = 192
TOKENS = np.random.default_rng(3).integers(3, 200, TARGET).tolist()
TOLERANCE = 1e-4

LONG, SHORT = [1.0 + i for i in range(8)], [1.0 + i / 8 for i in range(8)]
SCALINGS: dict[str, tuple[dict[str, object], str, dict[str, str]]] = {
    "linear": ({"factor": 3.0}, "pi", {}),
    "dynamic": ({"factor": 2.0}, "dynamic-ntk", {"form": "hf", "factor": "2"}),
    "yarn": ({"factor": 3.0, "original_max_position_embeddings": L}, "yarn", {}),
    "yarn of its own": (
        {
            "rope_type": "yarn",
            "factor": 3.0,
            "original_max_position_embeddings": L,
            "attention_factor": 1.4,
            "beta_fast": 8.0,
            "beta_slow": 0.5,
            "truncate": False,
        },
        "yarn",
        {"attention_factor": "1.4", "beta_fast": "8", "beta_slow": "0.5", "truncate": "false"},
    ),
    "llama3": (
        {
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": L,
        },
        "llama3",
        {"factor": "8", "low_freq_factor": "1", "high_freq_factor": "4"},
    ),
    "longrope": (
        {"long_factor": LONG, "short_factor": SHORT, "original_max_position_embeddings": L},
        "longrope",
        {},
    ),
}
"""Parameters of transformers' scaling, and our method and options for the same thing."""

Arch = Literal["llama", "qwen2", "qwen3"]


def config_of(model: TinyModel, kind: str, parameters: dict[str, object]) -> dict[str, object]:
    """The `config.json` of the same model with a scaling; dynamic NTK's length is the one before it."""
    return {
        "model_type": model.arch,
        "vocab_size": model.n_vocab,
        "hidden_size": model.n_embd,
        "intermediate_size": model.n_ff,
        "num_hidden_layers": model.n_layer,
        "num_attention_heads": model.n_head,
        "num_key_value_heads": model.n_head_kv,
        "head_dim": model.head_dim,
        "rms_norm_eps": model.rms_eps,
        "rope_theta": model.rope_base,
        "max_position_embeddings": L if kind in ("dynamic", "linear") else TARGET,
        "tie_word_embeddings": False,
        "rope_scaling": {"rope_type": kind, **parameters},
    }


def transformers_logits(model: TinyModel, config: dict[str, object]) -> Float64:
    """Logits of `TOKENS` in one pass, [tokens, vocabulary], by transformers in float32 on the CPU."""
    torch, transformers = oracle_module("torch"), oracle_module("transformers")
    values = json.loads(json.dumps({key: value for key, value in config.items() if key != "model_type"}))
    made = transformers.AutoConfig.for_model(config["model_type"], **values)
    network = transformers.AutoModelForCausalLM.from_config(made, attn_implementation="eager").float().eval()
    weights = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in renamed(model).items()}
    network.load_state_dict(weights, strict=True)
    with torch.no_grad():
        logits = network(torch.tensor([TOKENS]), use_cache=False).logits[0]
    return np.asarray(logits.double().numpy())


NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def renamed(model: TinyModel) -> dict[str, np.ndarray]:
    """The weights under transformers' names, with Llama's interleaved pairs laid out as halves."""
    weights = {}
    for name, array in model.tensors.items():
        *layer, part, ending = name.split(".")
        place = f"model.layers.{layer[1]}." if layer else ""
        halves = model.arch == "llama" and part in ("attn_q", "attn_k")
        weights[f"{place}{NAMES[part]}.{ending}"] = (
            array.reshape(-1, model.head_dim // 2, 2, array.shape[-1]).swapaxes(1, 2).reshape(array.shape)
            if halves
            else array
        )
    return weights


def angles_and_factor(spec: RopeSpec, factors: tuple[float, ...], attention_factor: float) -> Positions:
    """What the reference needs, by the definition of a frequency factor."""
    theta = [spec.base ** (-2.0 * i / spec.n_rot) / factor for i, factor in enumerate(factors)]
    return Positions(np.outer(np.arange(TARGET, dtype=np.float64), theta), attention_factor)


@pytest.mark.parametrize("arch", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("name", SCALINGS)
def test_logits(tmp_path: Path, arch: Arch, name: str) -> None:
    """Of the scaling as it is read from the config, and of our method on the model without it."""
    parameters, method, options = SCALINGS[name]
    kind = str(parameters.get("rope_type", name))
    model = write_tiny_model(tmp_path / "tiny.gguf", arch=arch, train_length=L)
    config = config_of(model, kind, parameters)
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    spec = rope_spec_from_checkpoint(tmp_path)
    plain = RopeSpec(spec.architecture, spec.n_rot, spec.base, L, spec.n_layer)
    if method == "longrope":
        options = {"factors": str(tmp_path / "config.json")}
    plan = make_plan(plain, method, TARGET, options=options)

    expected = transformers_logits(model, config)

    def difference(positions: Positions) -> float:
        return float(np.max(np.abs(reference_logits(model, TOKENS, positions) - expected)))

    assert difference(angles_and_factor(spec, plan.frequency_factors, plan.attention_factor)) < TOLERANCE
    if kind != "dynamic":  # which acts only beyond what the checkpoint is
        own = angles_and_factor(spec, spec.own_factors, spec.own_attention_factor)
        assert difference(own) < TOLERANCE
    assert difference(plain_positions(model, TARGET)) > 1000 * TOLERANCE
