"""The plan that keeps a checkpoint's own method: what it is for which config and file, in numbers.

`test_transformers_converted` compares what the library makes of such plans with transformers.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from checkpoint_plans import N_ROT, SIZES, YARN, YARN_KEYS, Config, L, Plans, frequencies, scaled
from gguf_files import KeyValues
from ropewalk_plan import (
    GgufHeader,
    finetuning_notes,
    model_facts_from_gguf,
    plan_to_metadata,
    rope_spec_from_gguf,
)
from ropewalk_plan.checkpoint_method import NoRotationError

LISTS: Config = {
    "rope_type": "longrope",
    "long_factor": [4.0 + i for i in range(32)],
    "short_factor": [1.0 + i / 32 for i in range(32)],
}


PLAIN = (1.0,) * (N_ROT // 2)


@pytest.fixture
def plans(tmp_path: Path) -> Plans:
    return Plans(tmp_path)


def test_nothing_to_keep(plans: Plans) -> None:
    assert plans.of({}) is None
    assert plans.of({}, method="keep") is None
    assert plans.of(scaled({"type": "linear", "factor": 4.0}), method="none") is None
    linear = plans.header(keys={"rope.scaling.type": "linear", "rope.scaling.factor": 4.0})
    assert plans.of(scaled({"type": "linear", "factor": 4.0}), linear) is None


def test_a_length_is_all_that_the_file_does_not_say(plans: Plans) -> None:
    """Qwen 2.5 with YaRN as its card asks for it: upstream writes the length from before the scaling."""
    header = plans.header(keys=YARN_KEYS)
    plan = plans.made(scaled(YARN), header)
    assert (plan.method, plan.train_length, plan.target_length) == ("yarn", L, 4 * L)
    spec, facts = rope_spec_from_gguf(header), model_facts_from_gguf(header)
    assert plan.frequency_factors == tuple(float(np.float32(f)) for f in spec.own_factors)
    changes = plan_to_metadata(plan, spec, facts)
    assert changes.native
    assert {entry.key: entry.value for entry in changes.keys}["llama.context_length"] == 4 * L
    assert not changes.dropped
    assert plans.of(scaled(YARN), plans.header(context_length=4 * L, keys=YARN_KEYS)) is None


@pytest.mark.parametrize("base", [10000.0, 20000.0])
def test_factors_are_relative_to_the_files_base(base: float, plans: Plans) -> None:
    """Frequencies b'^(-2i/d) / f are what the checkpoint turns by, whatever b' is."""
    plan = plans.made(scaled({"type": "linear", "factor": 3.0}), plans.header(base=base))
    theta = frequencies(plan.frequency_factors, base)
    np.testing.assert_allclose(theta, frequencies(PLAIN) / 3.0, rtol=2.0**-23)
    assert (plan.method, plan.options) == ("pi", "kept=true,factor=3")


def test_longrope_on_another_base(plans: Plans) -> None:
    config = scaled({**LISTS, "original_max_position_embeddings": L}, max_position_embeddings=4 * L)
    plan = plans.made(config, plans.header(base=20000.0))
    assert [step.up_to_length for step in plan.schedule] == [L, 4 * L]
    for step, name in zip(plan.schedule, ("short_factor", "long_factor"), strict=True):
        theta = frequencies(step.frequency_factors, 20000.0)
        np.testing.assert_allclose(theta, frequencies(PLAIN) / np.array(LISTS[name]), rtol=2.0**-23)
        assert step.attention_factor == pytest.approx(math.sqrt(1 + math.log(4) / math.log(L)), rel=1e-6)


def test_both_lists_have_an_attention_factor_of_their_own_in_phi_moe(plans: Plans) -> None:
    lists = {**LISTS, "original_max_position_embeddings": L, "short_mscale": 1.1, "long_mscale": 1.25}
    config = scaled(lists, model_type="phimoe", max_position_embeddings=4 * L)
    plan = plans.made(config, plans.header("phimoe"))
    assert [step.attention_factor for step in plan.schedule] == [pytest.approx(1.1), 1.25]


def test_one_list_where_one_is_enough(plans: Plans) -> None:
    """The short one for a model no longer than its original length, or for a target within it."""
    short = tuple(float(np.float32(f)) for f in LISTS["short_factor"])  # type: ignore[attr-defined]
    plan = plans.made(scaled({**LISTS, "original_max_position_embeddings": L}))
    assert [step.frequency_factors for step in plan.schedule] == [short]
    longer = scaled({**LISTS, "original_max_position_embeddings": L}, max_position_embeddings=4 * L)
    within = plans.made(longer, target_length=L)
    assert [(step.up_to_length, step.frequency_factors) for step in within.schedule] == [(L, short)]
    alike = {**LISTS, "short_factor": LISTS["long_factor"], "original_max_position_embeddings": L}
    assert len(plans.made(scaled(alike, max_position_embeddings=4 * L)).schedule) == 1


def test_dynamic_ntk(plans: Plans) -> None:
    """The formula of transformers at the end of each step, up to factor times L, or as far as asked."""
    config = scaled({"type": "dynamic", "factor": 3.0})
    plan = plans.made(config)
    assert (plan.method, plan.train_length, plan.target_length) == ("dynamic-ntk", L, 3 * L)
    assert plan.options == "kept=true,form=hf,factor=3,step=1.25"
    assert plan.schedule[0].up_to_length == L
    for step in plan.schedule:
        raised = 10000.0 * (3.0 * step.up_to_length / L - 2.0) ** (N_ROT / (N_ROT - 2))
        theta = frequencies(step.frequency_factors)
        np.testing.assert_allclose(theta, frequencies(PLAIN, raised), rtol=1e-6)
    assert plans.made(config, target_length=10 * L).target_length == 10 * L
    assert plans.of(config, target_length=L) is None
    still = scaled({"type": "dynamic", "factor": 1.0})
    assert plans.of(still) is None
    elsewhere = plans.made(still, plans.header(base=20000.0))  # from which it is as it was
    np.testing.assert_allclose(
        frequencies(elsewhere.frequency_factors, 20000.0), frequencies(PLAIN), rtol=2.0**-23
    )
    within = plans.made(config, plans.header(base=20000.0), target_length=L)
    assert [(step.up_to_length, step.frequency_factors) for step in within.schedule] == [
        (L, elsewhere.frequency_factors)
    ]


QWEN: Config = {
    "model_type": "qwen",
    "kv_channels": N_ROT,
    "rotary_emb_base": 10000,
    "seq_length": L,
    "max_position_embeddings": 4 * L,
    "use_dynamic_ntk": True,
    "use_logn_attn": True,
}


@pytest.mark.parametrize(("stated", "target"), [(4 * L, 4 * L), (8 * L, 8 * L), (L, 4 * L)])
def test_qwens_first_checkpoints(stated: int, target: int, plans: Plans) -> None:
    """With alpha = 2^ceil(log2(len/L) + 1) - 1; up to what the config says beyond L, else 4 L."""
    header = plans.header("qwen", context_length=stated)
    plan = plans.made({**QWEN, "max_position_embeddings": stated}, header)
    assert (plan.method, plan.train_length, plan.target_length) == ("dynamic-ntk+logn", L, target)
    assert plan.logn_length == L
    assert [step.up_to_length for step in plan.schedule] == [
        L * 2**n for n in range(1 + round(math.log2(target / L)))
    ]
    for step in plan.schedule:
        alpha = max(1.0, 2.0 ** math.ceil(math.log2(step.up_to_length / L) + 1) - 1)
        raised = 10000.0 * alpha ** (N_ROT / (N_ROT - 2))
        theta = frequencies(step.frequency_factors)
        np.testing.assert_allclose(theta, frequencies(PLAIN, raised), rtol=1e-6)


def test_each_of_qwens_two_alone(plans: Plans) -> None:
    header = plans.header("qwen", context_length=4 * L)
    logn = plans.made({**QWEN, "use_dynamic_ntk": False}, header)
    assert (logn.method, logn.logn_length, logn.schedule) == ("logn", L, ())
    assert logn.target_length == 4 * L
    dynamic = plans.made({**QWEN, "use_logn_attn": False}, header)
    assert (dynamic.method, dynamic.logn_length) == ("dynamic-ntk", 0)


def test_windows_narrower_than_the_target(plans: Plans) -> None:
    mistral = {"model_type": "mistral", "sliding_window": 512}
    plan = plans.made(mistral)
    assert (plan.method, plan.options) == ("windows", "kept=true,windows=512,sinks=0")
    assert (plan.windows, plan.schedule, plan.target_length) == ((512, 512), (), L)
    assert plans.of({**mistral, "sliding_window": L}) is None
    assert plans.of(mistral, target_length=L) is not None
    upper = {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 512, "max_window_layers": 1}
    assert plans.made(upper, plans.header("qwen2")).windows == (0, 512)
    drafting = plans.made(upper, plans.header("qwen2", keys={"block_count": 3}))
    assert drafting.windows == (0, 512, 0)  # a layer that only drafts tokens


def test_parts_are_named_together(plans: Plans) -> None:
    config = scaled(YARN, model_type="mistral", sliding_window=512)
    plan = plans.made(config)
    assert plan.method == "yarn+windows"
    assert (len(plan.schedule), plan.windows) == (1, (512, 512))


def test_sliding_layers_that_rotate_as_the_others_do(plans: Plans) -> None:
    """Gemma 2's in transformers; Gemma 3's have a rotation of their own, which the file says."""
    linear = scaled({"rope_type": "linear", "factor": 4.0}, head_dim=N_ROT)
    window: KeyValues = {"attention.sliding_window": 512}
    two = plans.made({**linear, "model_type": "gemma2"}, plans.header("gemma2", keys=window))
    assert two.rope_layers == (0, 1)
    three = plans.made({**linear, "model_type": "gemma3_text"}, plans.header("gemma3", keys=window))
    assert three.rope_layers is None


def test_the_file_is_believed_where_the_config_says_nothing(plans: Plans) -> None:
    """Another base, other dimensions or a scaling in the file, from keys that only upstream reads."""
    silent = {**SIZES, "rope_theta": None, "model_type": "internlm2"}
    assert plans.of(silent, plans.header(base=5e5)) is None
    assert plans.of({}, plans.header(n_rot=32)) is None
    assert plans.of({}, plans.header(keys=YARN_KEYS)) is None
    stated = plans.made({"rope_theta": 5e5})
    assert (stated.method, stated.train_length, stated.target_length) == ("none", L, L)


def test_hunyuans_dynamic_is_a_raised_base(plans: Plans) -> None:
    """In transformers alpha raises it once and for all; upstream writes that, and a length of its own."""
    raised = 10000.0 * 1000.0 ** (N_ROT / (N_ROT - 2))
    config = scaled({"type": "dynamic", "alpha": 1000.0, "factor": 1.0}, model_type="hunyuan_v1_dense")
    assert plans.of(config, plans.header("hunyuan-dense", base=raised, context_length=8 * L)) is None


def test_linear_scaling_that_left_the_length_as_it_was(plans: Plans) -> None:
    """Vicuna's config says how far it reaches in a key that llama.cpp's converter does not look at."""
    header = plans.header(keys={"rope.scaling.type": "linear", "rope.scaling.factor": 4.0})
    for config in (
        scaled({"type": "linear", "factor": 4.0}, max_sequence_length=4 * L),
        scaled({"type": "linear", "factor": 4.0, "original_max_position_embeddings": L}),
    ):
        plan = plans.made(config, header)
        assert (plan.method, plan.train_length, plan.target_length) == ("pi", L, 4 * L)
        assert set(plan.frequency_factors) == {4.0}
        changes = plan_to_metadata(plan, rope_spec_from_gguf(header), model_facts_from_gguf(header))
        assert changes.native
        assert {entry.key: entry.value for entry in changes.keys}["llama.context_length"] == 4 * L
    other = scaled({"type": "linear", "factor": 4.0}, max_sequence_length=3 * L)
    assert plans.of(other, header) is None  # it does not belong to the scaling


@pytest.mark.parametrize("arch", ["phi3", "minicpm3", "llama"])
def test_lists_that_stock_chooses_from_by_the_size_of_the_context(arch: str, plans: Plans) -> None:
    """Upstream writes no type beside some of them; two that are alike say one rotation, as MiniCPM 3's do."""
    long, short = (np.array(LISTS[f"{which}_factor"], np.float32) for which in ("long", "short"))
    attention = {"rope.scaling.attn_factor": math.sqrt(1 + math.log(4) / math.log(L))}
    lengths: Config = {"max_position_embeddings": 4 * L, "original_max_position_embeddings": L}
    config = scaled(
        {**LISTS, "short_factor": LISTS["long_factor"]}, model_type=arch, qk_rope_head_dim=N_ROT, **lengths
    )

    def header(other: npt.NDArray[np.float32]) -> GgufHeader:
        tensors = {"rope_factors_long.weight": long, "rope_factors_short.weight": other}
        return plans.header(arch, context_length=4 * L, keys=attention, tensors=tensors)

    assert plans.of(config, header(long)) is None
    of_another = header(short)
    plan = plans.made(config, of_another)
    assert [step.frequency_factors for step in plan.schedule] == [tuple(float(f) for f in long)]
    changes = plan_to_metadata(plan, rope_spec_from_gguf(of_another), model_facts_from_gguf(of_another))
    assert not changes.native


def test_a_target_length_within_what_the_method_covers(plans: Plans) -> None:
    assert plans.made(scaled(YARN), target_length=2 * L).target_length == 2 * L
    assert "is 16384, and this checkpoint's own method reaches 8192 tokens; ask for no more" in plans.refusal(
        scaled(YARN), target_length=8 * L
    )
    assert "it must be at least 2048" in plans.refusal(scaled(YARN), target_length=L - 1)
    assert "own method reaches 2048 tokens" in plans.refusal({}, target_length=2 * L)
    unchanged = scaled({"type": "linear", "factor": 4.0})  # as Vicuna's, which leave the length as it was
    assert plans.made(unchanged).target_length == L
    assert plans.made(unchanged, target_length=4 * L).target_length == 4 * L
    assert "reaches 8192 tokens" in plans.refusal(unchanged, target_length=4 * L + 1)


def test_refusals(plans: Plans) -> None:
    assert "rotates 64 dimensions of a head and the converted file 32; --method none" in plans.refusal(
        scaled(YARN), plans.header(n_rot=32)
    )
    assert "train_length is given, and the checkpoint's own method takes none" in plans.refusal(
        {}, train_length=L
    )
    assert "option factor is given" in plans.refusal({}, options={"factor": "2"})
    assert "config has 2 layers and the converted file 1" in plans.refusal(
        {"model_type": "mistral", "sliding_window": 8}, plans.header(keys={"block_count": 1})
    )
    several = {
        "model_type": "qwen2_vl",
        "use_sliding_window": True,
        "sliding_window": 8,
        "max_window_layers": 0,
    }
    assert "a token has several positions; --method none converts it" in plans.refusal(
        several, plans.header("qwen2vl")
    )
    with pytest.raises(NoRotationError):
        plans.of({"model_type": "mamba"})
    with pytest.raises(NoRotationError):
        plans.of({"model_type": "falcon", "alibi": True})


def test_a_models_own_method_needs_no_tuning(plans: Plans) -> None:
    plan = plans.made(scaled({"type": "linear", "factor": 8.0, "original_max_position_embeddings": L // 8}))
    assert plan.scale == 8.0
    assert finetuning_notes(plan) == ()
    as_applied = plans.made({}, method="pi", target_length=8 * L)
    assert len(finetuning_notes(as_applied)) == 1
