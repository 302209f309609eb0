"""Plans exported for transformers, and what transformers itself makes of them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ropewalk_plan import ContextPlan, RopeSpec, ScheduleStep, make_plan
from ropewalk_plan.export import transformers_config
from ropewalk_plan.rotation_in_force import attention_factor_in_force, frequencies_in_force
from transformers_oracle import oracle_module

L = 4096
LLAMA2 = RopeSpec(architecture="llama", n_rot=128, base=10000.0, train_length=L, n_layer=32)
SCALED = RopeSpec(
    "llama", 128, 5e5, L, 32, own_factors=tuple(np.linspace(1, 8, 64).tolist()), own_attention_factor=1.25
)


def in_transformers(config: dict[str, object], length: int) -> tuple[np.ndarray, float]:
    """Inverse frequencies and attention factor that transformers' llama computes from an exported config."""
    configs = oracle_module("transformers")
    llama = oracle_module("transformers.models.llama.modeling_llama")
    torch = oracle_module("torch")
    written = json.loads(json.dumps(config))
    made = configs.LlamaConfig.from_dict(
        {"model_type": "llama", "hidden_size": 512, "num_attention_heads": 4, **written}
    )
    rotary = llama.LlamaRotaryEmbedding(made)
    rotary(torch.zeros(1, 1, 1), torch.arange(length)[None])  # picks the list for the length
    return rotary.inv_freq.numpy(), float(rotary.attention_scaling)


@pytest.mark.parametrize("method", ["none", "pi", "ntk", "yarn", "dprope", "abf", "llama3"])
@pytest.mark.parametrize("spec", [LLAMA2, SCALED], ids=["plain", "scaled"])
@pytest.mark.parametrize("length", [100, 2 * L])
def test_runs_static_plans(method: str, spec: RopeSpec, length: int) -> None:
    plan = make_plan(spec, method, 4 * L)
    config = transformers_config(plan, spec)
    frequencies, attention_factor = in_transformers(config, length)
    assert frequencies == pytest.approx(frequencies_in_force(plan, spec), rel=1e-6)
    assert attention_factor == pytest.approx(attention_factor_in_force(plan, spec), rel=1e-7)
    assert config["max_position_embeddings"] == 4 * L


def test_runs_a_short_and_a_long_list() -> None:
    steps = tuple(ScheduleStep(up_to, (factor,) * 64, 1.5) for up_to, factor in ((L, 1.25), (4 * L, 4.0)))
    plan = ContextPlan("test", L, 4 * L, schedule=steps)
    config = transformers_config(plan, LLAMA2)
    for length, factor in ((L, 1.25), (L + 1, 4.0)):
        frequencies, attention_factor = in_transformers(config, length)
        assert frequencies == pytest.approx(LLAMA2.frequencies / factor, rel=1e-6)
        assert attention_factor == 1.5
