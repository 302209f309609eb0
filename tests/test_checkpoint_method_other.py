"""Another method than a checkpoint's own: what it is computed from, from which length, and to which."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from checkpoint_plans import SIZES, YARN, YARN_KEYS, Config, L, Plans, frequencies, scaled
from gguf_files import KeyValues
from ropewalk_plan import (
    RopeSpec,
    finetuning_notes,
    make_plan,
    model_facts_from_gguf,
    plan_to_metadata,
    rope_spec_from_gguf,
)

LINEAR: Config = {"type": "linear", "factor": 4.0}
PLAIN = RopeSpec("llama", n_rot=64, base=10000.0, train_length=L, n_layer=2)


@pytest.fixture
def plans(tmp_path: Path) -> Plans:
    return Plans(tmp_path)


def test_a_plain_checkpoint(plans: Plans) -> None:
    plan = plans.made({}, method="yarn", target_length=4 * L, options={"beta_fast": "16"})
    assert plan == make_plan(PLAIN, "yarn", 4 * L, options={"beta_fast": "16"})
    assert "says no length beyond its train length of 2048 tokens; give a target length" in plans.refusal(
        {}, method="yarn"
    )


@pytest.mark.parametrize("base", [10000.0, 30000.0])
def test_from_the_checkpoints_frequencies_not_the_files(base: float, plans: Plans) -> None:
    """The file has lost the scaling, or has another base: PI by 2 on linear scaling by 4 divides by 8."""
    header = plans.header(base=base)
    plan = plans.made(scaled(LINEAR), header, method="pi", target_length=2 * L)
    theta = frequencies(plan.frequency_factors, base)
    np.testing.assert_allclose(theta, frequencies((8.0,) * 32), rtol=2.0**-22)
    assert plan.train_length == L


def test_a_method_that_says_no_frequencies_keeps_the_checkpoints(plans: Plans) -> None:
    """Where the file has lost them: the plan states them. Where it has not: they are the file's."""
    plan = plans.made(scaled(LINEAR), method="logn", target_length=2 * L)
    assert set(plan.frequency_factors) == {4.0}
    assert plan.logn_length == L
    said = plans.header(keys={"rope.scaling.type": "linear", "rope.scaling.factor": 4.0})
    assert plans.made(scaled(LINEAR), said, method="logn", target_length=2 * L).schedule == ()


UNTRUNCATED: Config = {**YARN, "truncate": False}


@pytest.mark.parametrize("method", ["logn", "windows", "streaming"])
@pytest.mark.parametrize("train_length", [L, 4 * L])
def test_such_a_method_removes_no_scaling_wherever_its_own_length_is(
    method: str, train_length: int, plans: Plans
) -> None:
    """From the length before the scaling, too: the model goes on with it, in the file or not."""
    for scaling, keys, stated in (
        (YARN, YARN_KEYS, method == "streaming"),
        (UNTRUNCATED, YARN_KEYS, True),
        (YARN, None, True),
        (UNTRUNCATED, None, True),
    ):
        header = plans.header(keys=keys)
        plan = plans.made(
            scaled(scaling), header, method=method, train_length=train_length, target_length=16 * L
        )
        assert plan.train_length == train_length
        own = plans.made(scaled(scaling)).schedule[0]
        assert max(own.frequency_factors) == 4.0
        said = [(step.frequency_factors, step.attention_factor) for step in plan.schedule]
        assert said == [(own.frequency_factors, own.attention_factor)] * stated


LONGROPE: Config = {
    "rope_type": "longrope",
    "long_factor": [4.0 + i for i in range(32)],
    "short_factor": [1.0 + i / 32 for i in range(32)],
}
LISTS = {
    "rope_factors_long.weight": np.array(LONGROPE["long_factor"], np.float32),
    "rope_factors_short.weight": np.array(LONGROPE["short_factor"], np.float32),
}


@pytest.mark.parametrize("arch", ["phi3", "minicpm3", "llama"])
@pytest.mark.parametrize("method", ["pi", "ntk", "yarn", "dprope"])
def test_lists_that_stay_in_the_file_are_nothing_to_say_a_plan_beside(
    arch: str, method: str, plans: Plans
) -> None:
    """llama.cpp multiplies them with whatever its keys say, and upstream writes no type for some."""
    header = plans.header(arch, context_length=4 * L, tensors=LISTS)
    lengths: Config = {"max_position_embeddings": 4 * L, "original_max_position_embeddings": L}
    config = scaled(LONGROPE, model_type=arch, qk_rope_head_dim=64, **lengths)
    plan = plans.made(config, header, method=method, train_length=L)
    assert plan.schedule == make_plan(PLAIN, method, 4 * L).schedule
    changes = plan_to_metadata(plan, rope_spec_from_gguf(header), model_facts_from_gguf(header))
    assert not changes.native
    assert "LongRoPE lists" in changes.native_reason
    assert not changes.dropped and not changes.tensors
    assert all(entry.key.startswith("ropewalk.") for entry in changes.keys)


def test_a_length_that_only_the_converter_knows(plans: Plans) -> None:
    """HunYuan's: its config says an eighth of what the raised base reaches."""
    raised = 10000.0 * 1000.0 ** (64 / 62)
    config = scaled({"type": "dynamic", "alpha": 1000.0, "factor": 1.0}, model_type="hunyuan_v1_dense")
    header = plans.header("hunyuan-dense", base=raised, context_length=8 * L)
    plan = plans.made(config, header, method="pi", target_length=16 * L)
    assert (plan.train_length, set(plan.frequency_factors)) == (8 * L, {2.0})
    assert "target_length is 4096; it must be at least the train length 16384" in plans.refusal(
        config, header, method="pi", target_length=2 * L
    )
    asked = plans.made(config, header, method="pi", train_length=L)
    assert (asked.target_length, set(asked.frequency_factors)) == (8 * L, {8.0})


@pytest.mark.parametrize(
    ("config", "train_length"),
    [
        ({"max_position_embeddings": 8 * L}, L),  # says nothing of its fine-tuning, as most do
        (scaled({**YARN, "factor": 8.0}), L),
        (scaled({**YARN, "factor": 8.0}, max_position_embeddings=8 * L), L),
        (scaled({"type": "linear", "factor": 8.0}, max_position_embeddings=8 * L), L),
        (
            scaled(
                {"type": "linear", "factor": 8.0, "original_max_position_embeddings": L},
                max_position_embeddings=8 * L,
            ),
            L,
        ),
        (scaled({"type": "dynamic", "factor": 8.0}, max_position_embeddings=8 * L), L),
    ],
)
@pytest.mark.parametrize("method", ["pi", "yarn", "dprope", "extra-pe"])
def test_a_checkpoint_fine_tuned_with_a_method(
    config: Config, train_length: int, method: str, plans: Plans
) -> None:
    """From the length before, whether its config declares a scaling or not: never twice."""
    plan = plans.made(config, method=method, train_length=train_length)
    assert plan == make_plan(PLAIN, method, 8 * L)


def test_parameters_of_the_scaling_that_is_replaced_are_the_methods_defaults(plans: Plans) -> None:
    parameters: Config = {
        "rope_type": "llama3",
        "factor": 16.0,
        "low_freq_factor": 2.0,
        "high_freq_factor": 6.0,
        "original_max_position_embeddings": L,
    }
    config = scaled(parameters, max_position_embeddings=8 * L)
    replaced = plans.made(config, method="llama3", train_length=L)
    own = plans.made(config)
    assert replaced.schedule == own.schedule
    assert (replaced.train_length, replaced.target_length) == (L, 8 * L)


def test_on_top_of_a_scaling_from_its_full_length(plans: Plans) -> None:
    config = scaled({"type": "linear", "factor": 4.0, "original_max_position_embeddings": L // 4})
    for train_length in (None, L):
        plan = plans.made(config, method="pi", target_length=2 * L, train_length=train_length)
        assert set(plan.frequency_factors) == {8.0}
    yarn = scaled(YARN)
    plan = plans.made(yarn, method="ntk", target_length=8 * L)
    assert plan.train_length == 4 * L
    own = plans.made(yarn)
    assert plan.attention_factor == own.attention_factor
    assert plan.frequency_factors[0] == own.frequency_factors[0] == 1.0
    assert plan.frequency_factors[-1] == pytest.approx(2.0 * own.frequency_factors[-1])


def test_train_lengths_that_contradict_the_config(plans: Plans) -> None:
    message = plans.refusal(scaled(YARN), method="pi", train_length=L // 2, target_length=8 * L)
    assert "train_length is 1024, and this checkpoint has a scaling of its own" in message
    assert "it must be 8192, its length with it, or 2048, from before it" in message
    unsaid = plans.refusal(scaled(LINEAR), method="pi", train_length=2 * L, target_length=4 * L)
    assert "it must be 512, from before it" in unsaid
    message = plans.refusal(VICUNA, method="pi", train_length=L // 4, target_length=4 * L)
    assert "it must be 8192, its length with it, or 2048, from before it" in message


VICUNA: Config = scaled(LINEAR, max_sequence_length=4 * L)


@pytest.mark.parametrize("target", [None, 4 * L, 8 * L])
def test_linear_scaling_that_left_the_length_as_it_was(target: int | None, plans: Plans) -> None:
    """The length of such a config is the one before the scaling, which the method replaces."""
    plan = plans.made(VICUNA, method="pi", train_length=L, target_length=target)
    assert plan == make_plan(PLAIN, "pi", target or 4 * L)


@pytest.mark.parametrize("train_length", [None, 4 * L])
def test_linear_scaling_that_says_how_far_it_reaches(train_length: int | None, plans: Plans) -> None:
    """Vicuna's is extended on top from there, by 2 here and by 4 of its own."""
    plan = plans.made(VICUNA, method="pi", target_length=8 * L, train_length=train_length)
    assert (plan.train_length, set(plan.frequency_factors)) == (4 * L, {8.0})


@pytest.mark.parametrize("target", [None, 2 * L, 4 * L, 8 * L])
def test_a_length_that_could_be_the_one_before_or_the_full_one(target: int | None, plans: Plans) -> None:
    """Gemma 3's 131072: beside its scaling, a method would go on from it; in place of it, lose that."""
    for method in ("pi", "yarn"):
        message = plans.refusal(scaled(LINEAR), method=method, train_length=L, target_length=target)
        assert "scales linearly without saying from which length; leave it out to go on" in message
        assert "give 512 for a method in place" in message
    on_top = plans.made(scaled(LINEAR), method="pi", target_length=2 * L)
    assert (on_top.train_length, set(on_top.frequency_factors)) == (L, {8.0})


def test_dynamic_parts_of_the_checkpoint_are_replaced(plans: Plans) -> None:
    qwen: Config = {
        "model_type": "qwen",
        "kv_channels": 64,
        "seq_length": L,
        "max_position_embeddings": 4 * L,
        "use_dynamic_ntk": True,
        "use_logn_attn": True,
    }
    plan = plans.made(qwen, plans.header("qwen", context_length=4 * L), method="pi")
    assert (plan.train_length, plan.target_length, plan.logn_length) == (L, 4 * L, 0)
    assert set(plan.frequency_factors) == {4.0}
    assert len(plan.schedule) == 1


MISTRAL: Config = {"model_type": "mistral", "sliding_window": 512}


def test_windows_stay(plans: Plans) -> None:
    plan = plans.made(MISTRAL, method="dynamic-ntk+logn", target_length=2 * L)
    assert plan.method == "dynamic-ntk+logn+windows"
    assert plan.windows == (512, 512)
    assert plan.options == "form=auto,factor=auto,step=1.25,windows=512,sinks=0"
    assert finetuning_notes(plan) == ()
    assert plans.made({**MISTRAL, "sliding_window": 4 * L}, method="ntk", target_length=2 * L).windows == ()


@pytest.mark.parametrize(
    ("method", "options", "windows"),
    [("windows", {"windows": "64"}, (64, 64)), ("ntk+windows", {}, (L, L)), ("streaming", {}, None)],
)
def test_unless_the_method_decides_on_windows(
    method: str, options: dict[str, str], windows: tuple[int, ...] | None, plans: Plans
) -> None:
    plan = plans.made(MISTRAL, method=method, target_length=2 * L, options=options)
    assert plan.method == method
    assert plan.windows == windows or (windows is None and plan.streaming)


def test_sliding_layers_cannot_be_left_with_less_than_the_checkpoint_has(plans: Plans) -> None:
    """Gemma 2's rotate by the scaling that the file has lost; a method's plan is for the others."""
    keys: KeyValues = {"attention.sliding_window": 512}
    gemma: Config = {"model_type": "gemma2", "head_dim": 64}
    header = plans.header("gemma2", keys=keys)
    message = plans.refusal({**gemma, **scaled(LINEAR)}, header, method="ntk", target_length=2 * L)
    assert "the sliding layers of this gemma2 checkpoint rotate with its own scaling" in message
    assert plans.made(gemma, header, method="ntk", target_length=2 * L).rope_layers is None


def test_refusals(plans: Plans) -> None:
    assert "method 'nonsense' is unknown" in plans.refusal({}, method="nonsense", target_length=2 * L)
    assert "target_length is 1024" in plans.refusal({}, method="pi", target_length=L // 2)
    assert "--method none" in plans.refusal(
        scaled(YARN), plans.header(n_rot=32), method="pi", target_length=8 * L
    )
    assert plans.made({**SIZES}, plans.header(n_rot=32), method="pi", target_length=2 * L).n_pairs == 16
