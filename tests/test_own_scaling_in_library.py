"""A model's own scaling, read from its file and written as a plan: the library computes what it does anyway.

What the file says, the library's own code executes where there is no plan; that is the oracle. A plan of the
model's own factors replaces it, so it must change nothing: bit for bit in these cases, since the factors are
the same F32 numbers. DeepSeek-V2 scales its scores besides, and no part of that may come twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFValueType

from library_logits import Mode, loaded
from ropewalk.backend import context_plan
from ropewalk_convert.gguf_copy import GgufCopy
from ropewalk_plan import ContextPlan, FileChanges, GgufHeader, ScheduleStep, rope_spec_from_gguf
from ropewalk_plan.metadata import KeyValue
from ropewalk_plan.not_executed import not_executed
from tiny_mla import Form, write_tiny_mla

pytestmark = pytest.mark.usefixtures("patched_library")

TOKENS = [int(token) for token in np.random.default_rng(17).integers(3, 360, 90)]
YARN = {"type": "yarn", "factor": 4.0, "original_context_length": 16}
ONE_THREAD = Mode(threads=1)
Scaling = Mapping[str, str | float | int]
_TYPES = {str: GGUFValueType.STRING, float: GGUFValueType.FLOAT32, int: GGUFValueType.UINT32}


def write_scaled(path: Path, form: Form, scaling: Scaling) -> Path:
    """A tiny model whose file has these keys of `rope.scaling`."""
    plain = write_tiny_mla(path.with_name("plain.gguf"), form)
    keys = tuple(
        KeyValue(f"{plain.arch}.rope.scaling.{name}", _TYPES[type(value)], value)
        for name, value in scaling.items()
    )
    copy = GgufCopy(GgufHeader.read(plain.path), FileChanges(native=False, native_reason="", keys=keys))
    with path.open("wb") as file:
        for _ in copy.write(file.write):
            pass
    return path


def own_as_a_plan(path: Path) -> ContextPlan:
    spec = rope_spec_from_gguf(GgufHeader.read(path))
    step = ScheduleStep(256, spec.own_factors, spec.own_attention_factor)
    return ContextPlan("its own", 64, 256, schedule=(step,))


def logits_without_and_with(path: Path, plan: ContextPlan) -> tuple[np.ndarray, np.ndarray]:
    with loaded(path, len(TOKENS), ONE_THREAD) as context:
        without = context.decode(TOKENS)
    with loaded(path, len(TOKENS), ONE_THREAD, lambda model: context_plan.set_plan(model, plan)) as context:
        return without, context.decode(TOKENS)


@pytest.mark.parametrize(
    ("form", "scaling", "factor"),
    [
        ("absorbed", {**YARN, "yarn_log_multiplier": 0.0707}, 1.0),
        ("absorbed", {**YARN, "yarn_log_multiplier": 0.1}, 1.0),
        ("absorbed", {"type": "linear", "factor": 4.0}, 1.0),
        ("expanded", YARN, 0.1 * np.log(4.0) + 1.0),
        ("expanded", {**YARN, "yarn_log_multiplier": 0.0707}, 1.0),
        ("expanded", {**YARN, "attn_factor": 1.25}, 1.25 * (0.1 * np.log(4.0) + 1.0)),
        ("expanded", {"type": "linear", "factor": 4.0, "attn_factor": 1.25}, 1.25),
        ("minicpm3", YARN, 0.1 * np.log(4.0) + 1.0),
    ],
)
def test_a_plan_of_the_models_own_scaling_changes_nothing(
    tmp_path: Path, form: Form, scaling: Scaling, factor: float
) -> None:
    path = write_scaled(tmp_path / "model.gguf", form, scaling)
    plan = own_as_a_plan(path)
    assert plan.attention_factor == pytest.approx(factor, rel=1e-6)
    assert not_executed(plan, GgufHeader.read(path)) is None
    without, with_plan = logits_without_and_with(path, plan)
    assert (without == with_plan).all()


@pytest.mark.parametrize("scaling", [YARN, {"type": "linear", "factor": 4.0, "attn_factor": 1.25}])
def test_a_factor_on_a_part_of_the_scores_is_refused_and_rightly(tmp_path: Path, scaling: Scaling) -> None:
    """Of latent attention, a plan scales whole scores: neither the model's own factor nor 1 is the same."""
    path = write_scaled(tmp_path / "model.gguf", "absorbed", scaling)
    plan = own_as_a_plan(path)
    assert not_executed(plan, GgufHeader.read(path)) is not None
    plain = ContextPlan("", 64, 256, schedule=(ScheduleStep(256, plan.frequency_factors),))
    for other in (plan, plain):
        without, with_plan = logits_without_and_with(path, other)
        assert np.abs(without - with_plan).max() > 0.1
