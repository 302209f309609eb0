"""A method tried on a plain file: the same as baking it, without a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli_running import run_process
from ropewalk.engine import Engine, EngineOptions
from ropewalk_convert import bake
from ropewalk_plan import GgufHeader, make_plan, rope_spec_from_gguf

pytestmark = pytest.mark.usefixtures("patched_library")

TEXT = "the thing is that an answer is in the rope, and the rope is in the thing. " * 4


def answer(model: Path, options: EngineOptions) -> tuple[int, ...]:
    with Engine.start() as engine:
        engine.load(model, options)
        engine.prefill(engine.tokenize(TEXT))
        generation = engine.generate(16, stop_at_eog=False)
        list(generation)
        return generation.result.token_ids


def test_a_plan_given_with_the_load_is_the_plan_baked(tiny_qwen2: Path, tmp_path: Path) -> None:
    plan = make_plan(rope_spec_from_gguf(GgufHeader.read(tiny_qwen2)), "extra-pe+logn", 256)
    baked = tmp_path / "baked.gguf"
    bake(tiny_qwen2, baked, method="extra-pe+logn", target_length=256)

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
    plan = json.loads(done.stdout)["plan"]
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
