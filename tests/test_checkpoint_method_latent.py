"""Checkpoints of multi-head latent attention, of which only a part of each head rotates: kept, or refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from checkpoint_plans import N_ROT, YARN, YARN_KEYS, Config, L, Plans, scaled
from gguf_files import KeyValues


@pytest.fixture
def plans(tmp_path: Path) -> Plans:
    return Plans(tmp_path)


def test_latent_attentions_own_way_with_yarn(plans: Plans) -> None:
    """DeepSeek's two mscales cancel in the rotation, as llama.cpp knows; other betas are kept."""
    deepseek: Config = {
        "model_type": "deepseek_v2",
        "qk_rope_head_dim": N_ROT,
        "max_position_embeddings": 4 * L,
    }
    keys: KeyValues = {
        **YARN_KEYS,
        "rope.scaling.yarn_log_multiplier": 0.0707,
        "attention.key_length_mla": 96,
        "attention.value_length_mla": 64,
    }
    header = plans.header("deepseek2", context_length=4 * L, keys=keys)
    mscales = {"mscale": 0.707, "mscale_all_dim": 0.707}
    assert plans.of({**deepseek, **scaled({**YARN, **mscales})}, header) is None
    betas = {**deepseek, **scaled({**YARN, **mscales, "beta_fast": 8})}
    assert plans.made(betas, plans.header("deepseek2", keys=keys)).attention_factor == 1.0


@pytest.mark.parametrize("model_type", ["deepseek_v3", "kimi_k2"])
@pytest.mark.parametrize("weight", [1.0, 0.707])
def test_two_mscales_that_are_alike(weight: float, model_type: str, plans: Plans) -> None:
    """As published, whatever the family calls itself: Kimi K2 is no `model_type` of transformers."""
    scaling = {**YARN, "mscale": weight, "mscale_all_dim": weight}
    config = scaled(scaling, model_type=model_type, qk_rope_head_dim=N_ROT, max_position_embeddings=4 * L)
    keys: KeyValues = {**LATENT_KEYS, "rope.scaling.yarn_log_multiplier": 0.1 * weight}
    assert plans.of(config, plans.header("deepseek2", context_length=4 * L, keys=keys)) is None
    plain = {key: value for key, value in config.items() if key != "rope_scaling"}
    assert plans.of(plain, plans.header("deepseek2", context_length=4 * L)) is None


def test_a_weight_of_whole_scores_elsewhere(plans: Plans) -> None:
    """Transformers multiplies scores by it in every family of latent attention, and in no other."""
    weighted = scaled({**YARN, "mscale": 1.0, "mscale_all_dim": 0.5}, qk_rope_head_dim=N_ROT)
    refused = plans.refusal({**weighted, "model_type": "minicpm3"}, plans.header("minicpm3"))
    by = (0.05 * math.log(4) + 1) ** 2
    assert f"of this minicpm3 checkpoint by 1 and transformers by {by:.4g}, which" in refused
    plan = plans.made(weighted)
    assert plan.attention_factor == pytest.approx((0.1 * math.log(4) + 1) / (0.05 * math.log(4) + 1))


@pytest.mark.parametrize(
    ("config", "file", "by"),
    [
        (YARN, {}, ((0.1 * math.log(4) + 1) ** 2, 1.0)),  # in transformers for the rotated part alone
        (
            {"type": "linear", "factor": 4.0},
            {"rope.scaling.type": "linear"},
            ((0.1 * math.log(4) + 1) ** 2, 1),
        ),
        (
            {**YARN, "mscale": 0.5, "mscale_all_dim": 0.5},
            {"rope.scaling.yarn_log_multiplier": 0.1},
            ((0.1 * math.log(4) + 1) ** 2, (0.05 * math.log(4) + 1) ** 2),
        ),
    ],
)
@pytest.mark.parametrize("method", [None, "pi"])
def test_scores_that_llama_cpp_scales_in_another_way(
    method: str | None, config: Config, file: KeyValues, by: tuple[float, float], plans: Plans
) -> None:
    """DeepSeek's models multiply whole scores by a term of the scaling, whether transformers does or not."""
    deepseek = scaled(config, model_type="deepseek_v2", qk_rope_head_dim=N_ROT)
    header = plans.header("deepseek2", keys={**YARN_KEYS, **file})
    refused = plans.refusal(deepseek, header, method=method, target_length=4 * L)
    assert f"of this deepseek2 checkpoint by {by[0]:.4g} and transformers by {by[1]:.4g}, which" in refused
    plain = plans.header("deepseek2")
    assert plans.of({"model_type": "deepseek_v2", "qk_rope_head_dim": N_ROT}, plain) is None


def test_an_attention_factor_in_latent_attention_that_the_file_does_not_have(plans: Plans) -> None:
    """It is for the rotated part of each head in transformers; a plan would multiply whole scores by it."""
    deepseek: Config = {
        "model_type": "deepseek_v2",
        "qk_rope_head_dim": N_ROT,
        "max_position_embeddings": 4 * L,
    }
    latent: KeyValues = {
        **YARN_KEYS,
        "rope.scaling.yarn_log_multiplier": 0.1,
        "attention.key_length_mla": 96,
        "attention.value_length_mla": 64,
    }
    unequal = {**deepseek, **scaled({**YARN, "mscale": 0.707, "mscale_all_dim": 1.0})}
    refused = plans.refusal(unequal, plans.header("deepseek2", keys=latent))
    assert "cannot be kept, because its scaling has an attention factor, which is for the rotated" in refused
    assert refused.endswith("--method none converts it as llama.cpp alone would run it")
    whole_heads = {key: value for key, value in latent.items() if not key.startswith("attention.")}
    kept = plans.made(unequal, plans.header("deepseek2", keys=whole_heads))
    assert kept.attention_factor == pytest.approx((0.0707 * math.log(4) + 1) / (0.1 * math.log(4) + 1))
    equal = {**deepseek, **scaled({**YARN, "mscale": 1.0, "mscale_all_dim": 1.0, "beta_fast": 8})}
    assert plans.made(equal, plans.header("deepseek2", keys=latent)).attention_factor == 1.0


LATENT_KEYS: KeyValues = {
    **YARN_KEYS,
    "rope.scaling.yarn_log_multiplier": 0.1,
    "attention.key_length_mla": 96,
    "attention.value_length_mla": 64,
}


def test_no_method_goes_on_from_an_attention_factor_in_latent_attention(plans: Plans) -> None:
    """It is for the rotated part of each head, and a plan's for whole scores; it can be replaced."""
    latent: Config = {"model_type": "deepseek_v2", "qk_rope_head_dim": 64}
    header = plans.header("deepseek2", context_length=4 * L, keys=LATENT_KEYS)
    unequal = {**latent, **scaled({**YARN, "mscale": 0.707, "mscale_all_dim": 1.0})}
    for method in ("pi", "yarn", "logn"):
        message = plans.refusal(unequal, header, method=method, target_length=8 * L)
        assert f"the method {method} cannot go on from this checkpoint, because its scaling has an" in message
    replaced = plans.made(unequal, header, method="pi", train_length=L)
    assert (set(replaced.frequency_factors), replaced.attention_factor) == ({4.0}, 1.0)
    equal = {**latent, **scaled({**YARN, "mscale": 1.0, "mscale_all_dim": 1.0})}
    assert plans.made(equal, header, method="pi", target_length=8 * L).attention_factor == 1.0
    assert plans.made(equal, header, method="logn", target_length=8 * L).schedule == ()
