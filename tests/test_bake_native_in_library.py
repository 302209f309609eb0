"""What the loaded llama.cpp makes of a file's own keys: the oracle for native plans and for own scaling.

A native plan is said twice in its file; here the stock keys run, and then the plan itself (in a file whose
stock keys are untouched). Both are the same rotation, so the logits must agree.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter, RopeScalingType

from library_logits import library_logits
from ropewalk_convert import bake
from ropewalk_convert.gguf_copy import GgufCopy
from ropewalk_plan import (
    ContextPlan,
    FileChanges,
    GgufHeader,
    ScheduleStep,
    model_facts_from_gguf,
    plan_to_metadata,
    rope_spec_from_gguf,
)
from tiny_models import Architecture, TinyModel, write_tiny_model

TRAIN, TARGET, N_TOKENS = 64, 256, 200
SAME = 1e-3  # F32 weights and cache: measured below 1e-4

pytestmark = pytest.mark.usefixtures("patched_library")


@pytest.fixture(scope="module")
def tokens() -> list[int]:
    return [int(t) for t in np.random.default_rng(5).integers(3, 300, N_TOKENS)]


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    arch: Architecture = request.param
    path = tmp_path_factory.mktemp("native") / f"{arch}.gguf"
    return write_tiny_model(path, arch=arch, train_length=TRAIN, seed=3)


def difference(a: Path, b: Path, tokens: list[int]) -> float:
    return float(np.abs(library_logits(a, tokens) - library_logits(b, tokens)).max())


def with_plan_alone(source: Path, plan: ContextPlan, target: Path) -> Path:
    """The source with the plan under `ropewalk.` and no stock key changed."""
    header = GgufHeader.read(source)
    changes = plan_to_metadata(plan, rope_spec_from_gguf(header), model_facts_from_gguf(header))
    keys = tuple(
        dataclasses.replace(entry, value=False) if entry.key == "ropewalk.native" else entry
        for entry in changes.keys
        if entry.key.startswith("ropewalk.") and entry.key != "ropewalk.rope.base"
    )
    copy = GgufCopy(header, FileChanges(native=False, native_reason="", keys=keys))
    with target.open("wb") as file:
        for _ in copy.write(file.write):
            pass
    return target


@pytest.mark.parametrize("method", ["pi", "ntk", "yarn", "dprope"])
def test_stock_keys_run_the_plan(model: TinyModel, tokens: list[int], method: str, tmp_path: Path) -> None:
    baked = bake(model.path, tmp_path / "native.gguf", method=method, target_length=TARGET)
    assert baked.native is not (method == "dprope" and model.arch == "qwen2")
    assert baked.plan is not None
    alone = with_plan_alone(model.path, baked.plan, tmp_path / "plan.gguf")
    assert difference(baked.target, alone, tokens) < SAME
    assert difference(baked.target, model.path, tokens) > 100 * SAME


def _linear(writer: GGUFWriter) -> None:
    writer.add_rope_scaling_type(RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(2.0)


def _yarn(writer: GGUFWriter) -> None:
    writer.add_rope_scaling_type(RopeScalingType.YARN)
    writer.add_rope_scaling_factor(4.0)
    writer.add_rope_scaling_orig_ctx_len(32)
    writer.add_rope_scaling_attn_factors(0.9)


def _factors(writer: GGUFWriter) -> None:
    writer.add_tensor("rope_freqs.weight", np.linspace(1, 6, 8, dtype=np.float32))


@pytest.mark.parametrize("own", [_linear, _yarn, _factors])
def test_own_scaling_is_read_as_llama_cpp_runs_it(own: object, tokens: list[int], tmp_path: Path) -> None:
    """The file's own rotation, said as a plan that replaces it, must change nothing."""
    assert callable(own)
    plain = write_tiny_model(tmp_path / "plain.gguf", train_length=TRAIN, seed=3)
    path = write_tiny_model(tmp_path / "own.gguf", train_length=TRAIN, seed=3, extra_keys=own).path
    spec = rope_spec_from_gguf(GgufHeader.read(path))
    step = ScheduleStep(TARGET, spec.own_factors, spec.own_attention_factor)
    plan = ContextPlan("own", TRAIN, TARGET, schedule=(step,))
    said = with_plan_alone(path, plan, tmp_path / "said.gguf")
    assert difference(said, path, tokens) < SAME
    assert difference(plain.path, path, tokens) > 100 * SAME


@pytest.mark.parametrize("own", [_linear, _yarn, _factors])
@pytest.mark.parametrize("method", ["pi", "ntk", "yarn", "dprope"])
def test_a_model_that_scales_is_extended_from_what_it_is(
    own: object, method: str, tokens: list[int], tmp_path: Path
) -> None:
    """However the plan is said, by stock keys or by itself, it is the same rotation."""
    assert callable(own)
    path = write_tiny_model(tmp_path / "own.gguf", train_length=TRAIN, seed=3, extra_keys=own).path
    baked = bake(path, tmp_path / "baked.gguf", method=method, target_length=TARGET)
    assert baked.plan is not None
    alone = with_plan_alone(path, baked.plan, tmp_path / "plan.gguf")
    assert difference(baked.target, alone, tokens) < SAME
    assert difference(baked.target, path, tokens) > 100 * SAME
