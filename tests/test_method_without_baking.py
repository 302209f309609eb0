"""A method tried on a plain file: the same as baking it, without a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli_running import Outcome, run_process
from ropewalk.engine import Engine, EngineOptions
from ropewalk_convert import bake
from ropewalk_plan import GgufHeader, make_plan, rope_spec_from_gguf
from tiny_gemma3 import write_tiny_gemma3

pytestmark = pytest.mark.usefixtures("patched_library")

TEXT = "the thing is that an answer is in the rope, and the rope is in the thing. " * 4


def answer(model: Path, options: EngineOptions) -> tuple[int, ...]:
    with Engine.start() as engine:
        engine.load(model, options)
        engine.prefill(engine.tokenize(TEXT))
        generation = engine.generate(16, stop_at_eog=False)
        list(generation)
        return generation.result.token_ids


@pytest.mark.parametrize("method", ["extra-pe+logn", "windows", "streaming", "dprope+streaming"])
def test_a_plan_given_with_the_load_is_the_plan_baked(tiny_qwen2: Path, tmp_path: Path, method: str) -> None:
    plan = make_plan(rope_spec_from_gguf(GgufHeader.read(tiny_qwen2)), method, 256)
    baked = tmp_path / "baked.gguf"
    bake(tiny_qwen2, baked, method=method, target_length=256)

    options = EngineOptions(n_ctx=512, threads=1)
    with_plan = answer(tiny_qwen2, EngineOptions(n_ctx=512, threads=1, plan=plan))

    assert with_plan == answer(baked, options)
    assert with_plan != answer(tiny_qwen2, options)


def test_passkey_tries_a_method(tiny_llama: Path) -> None:
    done = run_process(
        *("passkey", tiny_llama, "--lengths", "400", "--depths", "0.5", "--json", "-"),
        *("--method", "yarn+logn", "--target-length", "512", "--method-option", "beta_fast=16"),
    )
    assert done.exit_code == 0, done.stderr
    (recorded,) = json.loads(done.stdout)["plans"]
    plan = recorded["plan"]
    assert recorded["label"] == "yarn+logn beta_fast=16"
    assert plan["method"] == "yarn+logn"
    assert (plan["train_length"], plan["target_length"]) == (64, 512)
    assert "beta_fast=16" in plan["options"]


@pytest.mark.parametrize(
    ("options", "missing"),
    [(["--method", "pi"], "--target-length"), (["--target-length", "512"], "--method")],
)
def test_a_method_needs_its_length_and_a_length_its_method(
    tiny_llama: Path, options: list[str], missing: str
) -> None:
    done = run_process("passkey", tiny_llama, "--lengths", "400", *options)
    assert done.exit_code == 2
    assert missing in done.stderr


def test_a_file_that_carries_a_plan_takes_no_other(tiny_llama: Path, tmp_path: Path) -> None:
    baked = tmp_path / "baked.gguf"
    bake(tiny_llama, baked, method="pi", target_length=128)
    done = run_process("ask", baked, __file__, "-q", "?", "--method", "yarn", "--target-length", "512")
    assert done.exit_code == 3
    assert done.stderr == (
        f"ropewalk: {baked} carries a plan already (pi); "
        "name the plain file it was baked from, or leave --method out.\n"
    )


@pytest.fixture
def long_text(tmp_path: Path) -> Path:
    """More than 256 tokens."""
    path = tmp_path / "rope.txt"
    path.write_text(TEXT * 5)
    return path


def ask(model: Path, text: Path, *options: str) -> Outcome:
    method = ("--target-length", "256", "--threads", "1", "--max-tokens", "4")
    return run_process("ask", model, text, "-q", "what?", "--json", *method, *options)


@pytest.mark.parametrize("options", [[], ["--kv-type", "f32", "--ubatch-size", "16"]])
def test_a_stream_has_no_end(tiny_llama: Path, long_text: Path, options: list[str]) -> None:
    """Every other plan ends at its target length."""
    streamed = ask(tiny_llama, long_text, "--method", "ntk+streaming", *options)
    assert streamed.exit_code == 0, streamed.stderr
    counts = json.loads(streamed.stdout)
    assert counts["prompt_tokens"] > 256
    assert 1 <= counts["decode_tokens"] <= 4

    windowed = ask(tiny_llama, long_text, "--method", "ntk+windows", *options)
    assert windowed.exit_code == 4
    assert "beyond the target length of 256" in windowed.stderr


def test_windows_of_each_layer_are_tried(tiny_llama: Path, long_text: Path) -> None:
    options = ("--method", "windows", "--method-option", "windows=32/0", "--method-option", "sinks=4")
    asked = ask(tiny_llama, long_text, *options, "--beyond")
    assert asked.exit_code == 0, asked.stderr

    lengths = ("--lengths", "900", "--depths", "0.5", "--target-length", "256", "--json", "-")
    tested = run_process("passkey", tiny_llama, *lengths, *options)
    assert tested.exit_code == 0, tested.stderr
    (recorded,) = json.loads(tested.stdout)["plans"]
    plan = recorded["plan"]
    assert (plan["windows"], plan["sinks"], plan["schedule"]) == ([32, 0], 4, [])


def test_passkey_reads_a_stream(tiny_llama: Path) -> None:
    lengths = ("--lengths", "900", "--depths", "0.5", "--target-length", "256", "--json", "-")
    tested = run_process("passkey", tiny_llama, *lengths, "--method", "streaming")
    assert tested.exit_code == 0, tested.stderr
    record = json.loads(tested.stdout)
    assert record["plans"][0]["plan"]["windows"] == [54, 54]  # and 4 sinks, and a block of 6: L is 64
    assert record["results"][0]["prompt_tokens"] > 3 * 256


@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        ("windows", "gives no windows to this gemma3 model: it has windows of its own; choose a method"),
        ("streaming", "gives no windows to this gemma3 model: it has windows of its own; choose a method"),
    ],
)
def test_what_the_library_does_not_execute_is_told_before_the_model_is_loaded(
    tmp_path: Path, long_text: Path, method: str, sentence: str
) -> None:
    model = write_tiny_gemma3(tmp_path / "gemma3.gguf").path
    refused = ask(model, long_text, "--method", method)
    assert refused.exit_code == 3
    assert sentence in refused.sentence
    assert "gemma3.gguf" in refused.sentence
