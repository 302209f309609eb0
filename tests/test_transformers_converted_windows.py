"""The windows read from a config, against what each layer of transformers' own model attends to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from ropewalk_plan import PlanError
from ropewalk_plan.checkpoint_method import read_checkpoint_method
from transformers_oracle import oracle_module

N_LAYER, N_TOKENS, WINDOW = 4, 24, 8
TYPES = ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]

SIZES: Mapping[str, object] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 32,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "num_hidden_layers": N_LAYER,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "num_experts": 2,
    "num_local_experts": 2,
    "n_routed_experts": 2,
    "n_shared_experts": 1,
    "num_experts_per_tok": 1,
    "n_group": 1,
    "topk_group": 1,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
USED: Mapping[str, object] = {"use_sliding_window": True}
W: Mapping[str, object] = {"sliding_window": WINDOW}

CONFIGS: list[tuple[str, Mapping[str, object]]] = [
    *((kind, {}) for kind in ("mistral", "mixtral", "phi3", "phimoe", "starcoder2", "ministral3", "llama")),
    *((kind, W) for kind in ("mistral", "mixtral", "phi3", "phimoe", "starcoder2", "ministral3", "llama")),
    *((kind, {"sliding_window": None}) for kind in ("mistral", "qwen2", "dots1")),
    *((kind, W) for kind in ("qwen2", "qwen3", "qwen2_moe", "qwen3_moe", "smollm3")),
    *((kind, {**W, **USED}) for kind in ("qwen2", "qwen3", "qwen2_moe", "qwen3_moe", "smollm3")),
    *((kind, {**W, **USED, "max_window_layers": 2}) for kind in ("qwen2", "qwen3", "qwen2_moe")),
    *((kind, {**W, **USED, "layer_types": TYPES}) for kind in ("qwen2", "qwen3", "qwen2_moe", "smollm3")),
    ("dots1", W),
    ("dots1", {**W, "max_window_layers": 1}),
    ("dots1", {**W, "layer_types": TYPES}),
    ("smollm3", {**W, **USED, "no_rope_layer_interval": 2}),
    ("smollm3", {**W, **USED, "no_rope_layers": [0, 1, 1, 0]}),
    ("mistral", {**W, "layer_types": TYPES}),
]


def attended(kind: str, config: Mapping[str, object]) -> tuple[int, ...]:
    """How many tokens the last one attends to in each layer, itself included; 0 for all."""
    torch, transformers = oracle_module("torch"), oracle_module("transformers")
    made = transformers.AutoConfig.for_model(kind, **json.loads(json.dumps({**SIZES, **config})))
    model = transformers.AutoModelForCausalLM.from_config(made, attn_implementation="eager").float().eval()
    with torch.no_grad():
        layers = model(torch.arange(N_TOKENS)[None], output_attentions=True, use_cache=False).attentions
    assert len(layers) == N_LAYER
    rows = [layer[0, 0, -1] for layer in layers]
    seen = [int((row > 0).sum()) for row in rows]
    assert all(bool((row[-n:] > 0).all()) for row, n in zip(rows, seen, strict=True))
    return tuple(0 if n == N_TOKENS else n for n in seen)


@pytest.mark.parametrize(("kind", "config"), CONFIGS)
def test_windows_are_what_layers_attend_to(kind: str, config: Mapping[str, object], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind, **SIZES, **config}))
    read = read_checkpoint_method(tmp_path).windows or (0,) * N_LAYER
    within = tuple(0 if window >= N_TOKENS else window for window in read)
    assert within == attended(kind, config)


def test_a_window_left_out_is_mistrals_and_nobody_elses(tmp_path: Path) -> None:
    """Mistral's default is wider than the tokens above, so that they cannot tell."""
    transformers = oracle_module("transformers")
    for kind in ("mistral", "mixtral", "phi3", "phimoe", "starcoder2", "ministral3"):
        default = transformers.AutoConfig.for_model(kind).sliding_window
        (tmp_path / "config.json").write_text(json.dumps({"model_type": kind, **SIZES}))
        assert read_checkpoint_method(tmp_path).windows == ((default,) * N_LAYER if default else ())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"sliding_window": "wide"}, 'sliding_window is "wide"; it must be a number'),
        ({"sliding_window": 8.5}, "sliding_window is 8.5; it must be a whole number of tokens, or null"),
        ({**USED, **W, "layer_types": TYPES[:2]}, "it must be a list of 4 names, one for each layer"),
        ({**USED, "max_window_layers": -1}, "max_window_layers is -1; it must be a number of at least 0"),
    ],
)
def test_refusals(config: Mapping[str, object], message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2", **SIZES, **USED, **config}))
    with pytest.raises(PlanError) as caught:
        read_checkpoint_method(tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
