"""Configs that leave out what a method follows from: what is taken instead, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from checkpoint_plans import YARN, Config, L, Plans, scaled
from ropewalk_plan import PlanError
from ropewalk_plan.checkpoint_method import NoRotationError, read_checkpoint_method


@pytest.fixture
def plans(tmp_path: Path) -> Plans:
    return Plans(tmp_path)


def test_a_base_that_only_the_file_says(plans: Plans) -> None:
    """What a scaling does follows from the base: without it there is nothing to compute."""
    silent = scaled(YARN, model_type="internlm2", rope_theta=None)
    message = plans.refusal(silent, plans.header("internlm2", base=1e6))
    assert "has a scaling and no rope_theta, which the converted file says is 1000000; write it" in message
    assert message == plans.refusal(
        silent, plans.header("internlm2", base=1e6), method="pi", target_length=8 * L
    )
    assert plans.made(silent, plans.header("internlm2")).method == "yarn"  # the base of both
    stated = scaled(YARN, model_type="internlm2", rope_theta=1e6)
    assert plans.made(stated, plans.header("internlm2", base=1e6)).method == "yarn"


LLAVA: Config = {"model_type": "llava", "text_config": {"model_type": "llama", "rms_norm_eps": 1e-5}}
OPEN_ELM: Config = {"model_type": "openelm", "num_transformer_layers": 2, "max_context_length": 2048}


@pytest.mark.parametrize("published", [LLAVA, OPEN_ELM])
def test_nothing_to_keep_of_a_config_that_says_little(published: Config, tmp_path: Path) -> None:
    """Sizes are left to defaults, or have names of their own: no reason to refuse what declares no method."""

    def read(**changes: object) -> None:
        (tmp_path / "config.json").write_text(json.dumps({**published, **changes}), encoding="utf-8")
        read_checkpoint_method(tmp_path)

    with pytest.raises(NoRotationError, match=r"config\.json has no "):
        read()
    with pytest.raises(NoRotationError):
        read(rope_scaling={"rope_type": "default"}, use_logn_attn=False)
    for declared in (
        {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
        {"use_dynamic_ntk": True},
        {"model_type": "mistral", "text_config": None},
    ):
        with pytest.raises(PlanError, match=r"config\.json has no ") as caught:
            read(**declared)
        assert not isinstance(caught.value, NoRotationError)
    with pytest.raises(NoRotationError):
        read(model_type="mistral", text_config=None, sliding_window=None)


def test_lengths_that_configs_say_in_other_words(plans: Plans) -> None:
    """Falcon's first leave out 2048; LLaDA's have a key of their own."""
    for model_type, said in (("falcon", {}), ("llada", {"max_sequence_length": L})):
        config = {"model_type": model_type, "max_position_embeddings": None, **said}
        header = plans.header(model_type, context_length=L)
        assert plans.of(config, header) is None
        assert plans.made(config, header, method="pi", target_length=2 * L).train_length == L
