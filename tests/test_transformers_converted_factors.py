"""Kept plans for random configs and files of any base: what pairs turn by, against transformers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from checkpoint_plans import frequencies
from gguf_files import write_rope_keys
from rope_configs import PARAMETERS, scaled_configs
from ropewalk_plan import GgufHeader
from ropewalk_plan.checkpoint_method import plan_for_converted, read_checkpoint_method
from transformers_oracle import config_of, oracle_module, rotation

PLAIN = (1.0,) * 256
TOLERANCE = 1e-6

ENOUGH = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.parametrize("kind", PARAMETERS)
@ENOUGH
@given(data=st.data())
def test_what_a_kept_plan_turns_by(kind: str, tmp_path: Path, data: st.DataObject) -> None:
    """At the target length; the file says nothing of the scaling, and has a base of its own."""
    config = data.draw(scaled_configs(kind))
    base = float(np.float32(data.draw(st.floats(500.0, 1e7))))
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    own = read_checkpoint_method(tmp_path)
    path = write_rope_keys(
        tmp_path / "converted.gguf",
        n_rot=own.spec.n_rot,
        base=base,
        context_length=own.spec.train_length,
        keys={"block_count": own.spec.n_layer},
    )
    plan = plan_for_converted(own, GgufHeader.read(path))
    length = own.spec.train_length if plan is None else plan.target_length
    inverse, attention_factor = rotation(config, length, doubles=True)
    factors = PLAIN[: own.spec.n_pairs] if plan is None else plan.frequency_factors
    np.testing.assert_allclose(frequencies(factors, base), inverse, rtol=TOLERANCE)
    said = 1.0 if plan is None else plan.attention_factor
    assert said == pytest.approx(attention_factor, rel=TOLERANCE)


SCOUT: dict[str, object] = {
    "model_type": "llama4_text",
    "head_dim": 128,
    "hidden_size": 5120,
    "num_attention_heads": 40,
    "num_hidden_layers": 48,
    "max_position_embeddings": 10485760,
    "rope_theta": 500000.0,
    "rope_scaling": {
        "factor": 16.0,
        "high_freq_factor": 1.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
}
"""Llama 4 Scout's rotation as published: Llama 3's scaling with a step, and no ramp."""


def test_a_step_in_place_of_llama_3s_ramp(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(SCOUT), encoding="utf-8")
    spec = read_checkpoint_method(tmp_path).spec
    assert set(spec.own_factors) == {1.0, 16.0}
    np.testing.assert_allclose(spec.frequencies, rotation(SCOUT, doubles=True)[0], rtol=TOLERANCE)


@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen2_5_vl"])
def test_the_base_of_a_config_that_keeps_its_language_model_outside(kind: str, tmp_path: Path) -> None:
    """As Qwen2-VL's first: transformers takes a million where it says no base, with a scaling or without."""
    sizes = {"hidden_size": 256, "num_attention_heads": 4, "num_hidden_layers": 2}
    for scaling in (None, {"type": "linear", "factor": 4.0}):
        config = {"model_type": kind, **sizes, "max_position_embeddings": 2048, "rope_scaling": scaling}
        (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
        own = read_checkpoint_method(tmp_path)
        assert own.says_base
        told = config_of(config)
        assert own.spec.base == told.rope_parameters["rope_theta"] == 1e6


@pytest.mark.parametrize(
    "kind", ["deepseek_v2", "deepseek_v3", "deepseek_v32", "glm_moe_dsa", "minicpm3", "mistral4"]
)
def test_what_whole_scores_are_multiplied_by(kind: str, tmp_path: Path) -> None:
    """In DeepSeek's kin, by the square of a term of the scaling, where the config has its weight."""
    module = oracle_module(f"transformers.models.{kind}.modeling_{kind}")
    sizes = {"hidden_size": 256, "num_attention_heads": 4, "num_hidden_layers": 2, "qk_rope_head_dim": 64}
    for parameters in (
        None,
        {"type": "linear", "factor": 4.0, "mscale_all_dim": 1.0},
        {"type": "yarn", "factor": 40.0, "original_max_position_embeddings": 512},
        {"type": "yarn", "factor": 40.0, "original_max_position_embeddings": 512, "mscale": 1.0},
        {"type": "yarn", "factor": 40.0, "mscale": 0.707, "mscale_all_dim": 0.707},
        {"type": "yarn", "factor": 40.0, "mscale": 0.5, "mscale_all_dim": 1.0},
    ):
        config = {"model_type": kind, **sizes, "max_position_embeddings": 2048, "rope_scaling": parameters}
        if parameters is None and kind == "mistral4":
            continue  # transformers takes the published scaling then
        (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
        read = read_checkpoint_method(tmp_path).score_factor
        assert read**2 == pytest.approx(module.yarn_apply_mscale(config_of(config).rope_parameters, 1.0))
