"""What bake refuses because the library would: by architecture, by the file, by part of the plan."""

from __future__ import annotations

from pathlib import Path

import pytest
from gguf import GGUFWriter

from cli_running import run_process
from gguf_files import KeyValues, write_rope_keys
from ropewalk_convert import SourceError, bake
from ropewalk_plan import (
    ContextPlan,
    GgufHeader,
    PlanError,
    PositionKind,
    PositionMap,
    ScheduleStep,
    rope_spec_from_gguf,
)
from ropewalk_plan.not_executed import not_executed

L, TARGET = 2048, 8192
STRETCHED = (1.5,) * 32

FACTORS = ContextPlan("", L, TARGET, schedule=(ScheduleStep(TARGET, STRETCHED),))
ATTENTION = ContextPlan("", L, TARGET, schedule=(ScheduleStep(TARGET, STRETCHED, 1.2),))
MAPPED = ContextPlan(
    "",
    L,
    TARGET,
    schedule=(ScheduleStep(TARGET, STRETCHED),),
    position_map=PositionMap(PositionKind.PERIODIC, L, 0),
)
LOGN = ContextPlan("", L, TARGET, logn_length=L)
STEPS = ContextPlan("", L, TARGET, schedule=(ScheduleStep(L, (1.0,) * 32), ScheduleStep(TARGET, STRETCHED)))
WINDOWS = ContextPlan("", L, TARGET, windows=(512, 0), sinks=4)
PLANS = {
    "factors": FACTORS,
    "attention": ATTENTION,
    "mapped": MAPPED,
    "logn": LOGN,
    "steps": STEPS,
    "windows": WINDOWS,
}
ALL_ROTATION = {"factors", "attention", "mapped", "steps"}

MLA = {"attention.key_length_mla": 64, "attention.value_length_mla": 64}
WINDOW = {"attention.sliding_window": 512}


def refused(path: Path) -> set[str]:
    header = GgufHeader.read(path)
    return {name for name, plan in PLANS.items() if not_executed(plan, header) is not None}


@pytest.mark.parametrize(
    ("arch", "keys", "expected"),
    [
        ("llama", {}, set()),
        ("qwen3moe", {}, set()),
        ("phi3", WINDOW, set()),
        ("gemma3", {}, set()),
        ("gemma3", WINDOW, {"windows"}),
        ("gemma2", {}, {"windows"}),
        ("gpt-oss", WINDOW, {"windows"}),
        ("laguna", {}, set()),
        ("laguna", WINDOW, {"windows"}),
        ("dflash", {}, {"windows"}),
        ("dream", {}, {"windows"}),
        ("nomic-bert", {}, {"windows"}),
        ("llama-embed", {}, {"windows"}),
        ("deepseek2", {}, set()),
        ("deepseek2", MLA, set()),
        ("mistral4", MLA, set()),
        ("deepseek32", MLA, {"steps", "windows"}),
        ("dots3note", MLA, {"steps", "windows"}),
        ("glm-dsa", MLA, {"steps", "windows"}),
        ("bailingmoe3", MLA, {"steps", "windows"}),
        ("hy_v4", MLA, {"windows"}),
        ("hy_v4", {**MLA, "attention.indexer.top_k": 8}, {"steps", "windows"}),
        ("minicpm3", {}, set()),
        ("cohere2", WINDOW, {*ALL_ROTATION, "windows"}),
        ("exaone-moe", WINDOW, {*ALL_ROTATION, "windows"}),
        ("maple", WINDOW, {*ALL_ROTATION, "windows"}),
        ("muse-glimmer", WINDOW, {*ALL_ROTATION, "windows"}),
        ("cohere2moe", WINDOW, {"windows"}),
        ("smallthinker", {}, set()),
        ("smallthinker", WINDOW, {*ALL_ROTATION, "windows"}),
        ("afmoe", {}, set()),
        ("afmoe", WINDOW, {*ALL_ROTATION, "windows"}),
        ("afmoe", {**WINDOW, "block_count": 8, "attention.sliding_window_pattern": 3}, {"windows"}),
        ("llama4", {}, {*ALL_ROTATION, "windows"}),
        ("llama4", {"attention.sliding_window": 0}, set()),
        ("exaone4", {}, set()),
        ("exaone4", {**WINDOW, "block_count": 30}, set()),
        ("exaone4", {**WINDOW, "block_count": 64}, {*ALL_ROTATION, "windows"}),
        ("deepseek4", WINDOW, {*ALL_ROTATION, "logn", "windows"}),
        ("lfm2", {}, {"steps", "windows"}),
        ("lfm2", WINDOW, {*ALL_ROTATION, "logn", "windows"}),
        ("qwen4exp", {}, {"mapped", "steps", "windows"}),
        ("minimax-m3", {}, {"logn", "steps", "windows"}),
        ("qwen2vl", {}, {"steps", "windows"}),
        ("qwen35moe", {}, {"steps", "windows"}),
        ("glm4", {}, set()),
        ("glm4", {"rope.dimension_sections": 16}, {"steps", "windows"}),
        ("hunyuan-dense", {}, {"steps"}),
        ("hunyuan-moe", {}, {"steps"}),
        ("hunyuan_vl", {}, {"steps"}),
        ("maincoder", {}, {"steps"}),
        ("falcon-h1", {}, {"steps", "windows"}),
        ("granitehybrid", {}, {"steps", "windows"}),
    ],
)
def test_what_the_library_refuses_by_architecture(
    tmp_path: Path, arch: str, keys: KeyValues, expected: set[str]
) -> None:
    """As the pinned release does: tried on random models, and read from its source where there were none."""
    assert refused(write_rope_keys(tmp_path / "model.gguf", arch, keys=keys)) == expected


@pytest.mark.parametrize(
    ("arch", "key", "values", "expected"),
    [
        ("glm4moe", "rope.dimension_sections", [16, 24, 24, 0], {"steps", "windows"}),
        ("glm4moe", "rope.dimension_sections", [0, 0, 0, 0], set()),
        ("smallthinker", "attention.sliding_window_pattern", [0, 1, 1, 1, 0], {*ALL_ROTATION, "windows"}),
        ("smallthinker", "attention.sliding_window_pattern", [0, 0, 1, 1, 0], {"windows"}),
    ],
)
def test_lists_in_files(tmp_path: Path, arch: str, key: str, values: list[int], expected: set[str]) -> None:
    path = tmp_path / "model.gguf"
    writer = GGUFWriter(str(path), arch)
    writer.add_context_length(L)
    writer.add_block_count(5)
    writer.add_sliding_window(512)
    writer.add_array(f"{arch}.{key}", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    assert refused(path) == expected


def test_layers_that_are_named_may_slide(tmp_path: Path) -> None:
    path = write_rope_keys(tmp_path / "model.gguf", "cohere2", keys=WINDOW)
    named = ContextPlan("", L, TARGET, schedule=FACTORS.schedule, rope_layers=(0,))
    assert not_executed(named, GgufHeader.read(path)) is None


@pytest.mark.parametrize(
    ("arch", "method", "words"),
    [
        ("lfm2", "windows", "gives no windows to this lfm2 model: its keys lie in a memory of another kind"),
        (
            "gemma3",
            "streaming",
            "no windows to this gemma3 model: it has windows of its own; choose a method",
        ),
        ("qwen2vl", "windows", "no windows to this qwen2vl model: a token has several positions"),
        ("dream", "windows", "no windows to this dream model: it keeps no keys from token to token"),
        (
            "maincoder",
            "streaming",
            "a norm follows the rotation of its keys; choose windows without streaming",
        ),
        ("cohere2", "ntk", "no layer of this cohere2 model both rotates and sees the whole context"),
        ("deepseek4", "logn", "LogN does not reach the attention of this deepseek4 model"),
        ("qwen4exp", "extra-pe", "rotates by positions of its own"),
        ("qwen2vl", "dynamic-ntk", "a token has several positions; choose a static method"),
        ("maincoder", "dynamic-ntk", "a norm follows the rotation of its keys"),
        ("falcon-h1", "dynamic-ntk", "its keys lie in a memory of another kind"),
    ],
)
def test_bake_refuses_before_it_writes(tmp_path: Path, arch: str, method: str, words: str) -> None:
    source = write_rope_keys(tmp_path / "model.gguf", arch, keys={**MLA, **WINDOW})
    outcome = run_process(
        "bake", source, tmp_path / "out.gguf", "--method", method, "--target-length", str(TARGET)
    )
    assert outcome.exit_code == 3
    assert words in outcome.sentence and "model.gguf" in outcome.sentence
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]


YARN = {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 512}


@pytest.mark.parametrize(
    ("arch", "keys", "expected"),
    [
        ("deepseek2", {**MLA, **YARN}, ALL_ROTATION),  # the rotated part alone is scaled, by 1.14
        ("deepseek2", {**MLA, **YARN, "rope.scaling.yarn_log_multiplier": 0.0707}, set()),
        ("deepseek2", {**MLA, "rope.scaling.attn_factor": 1.25}, ALL_ROTATION),
        ("deepseek2", {**MLA, "rope.scaling.type": "linear", "rope.scaling.factor": 4.0}, set()),
        ("deepseek2", YARN, set()),  # older files, whose latents llama.cpp expands
        ("mistral4", {**MLA, **YARN, "rope.scaling.yarn_log_multiplier": 0.1}, set()),
        ("llama", YARN, set()),
    ],
)
def test_a_factor_of_its_own_on_a_part_of_latent_attention(
    tmp_path: Path, arch: str, keys: KeyValues, expected: set[str]
) -> None:
    """No factor of a plan does what it does; `test_own_scaling_in_library` has it in numbers."""
    assert refused(write_rope_keys(tmp_path / "model.gguf", arch, keys=keys)) == expected


def test_what_the_keys_of_the_file_say_needs_no_patch(tmp_path: Path) -> None:
    """Another base, written where llama.cpp reads it."""
    source = write_rope_keys(tmp_path / "model.gguf", "minimax-m3")
    assert bake(source, tmp_path / "out.gguf", method="ntk", target_length=TARGET).native


@pytest.mark.parametrize(("layers", "rotates"), [(32, True), (40, False), (2, False)])
def test_baichuan_rotates_in_its_smaller_model_only(tmp_path: Path, layers: int, rotates: bool) -> None:
    path = write_rope_keys(tmp_path / "model.gguf", "baichuan", keys={"block_count": layers})
    if rotates:
        assert rope_spec_from_gguf(GgufHeader.read(path)).n_layer == layers
    else:
        with pytest.raises(PlanError, match="this baichuan model has no RoPE, as only those of 32 layers"):
            rope_spec_from_gguf(GgufHeader.read(path))
        with pytest.raises(SourceError, match="has no RoPE"):
            bake(path, tmp_path / "out.gguf", method="pi", target_length=TARGET)
