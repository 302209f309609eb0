"""The library itself refuses what it cannot execute: in one sentence, by name, and without a crash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFValueType, GGUFWriter

from library_logits import LibraryRefusedError, library_logits, loaded
from ropewalk.backend import context_plan
from ropewalk_plan import ContextPlan, ScheduleStep
from tiny_models import add_hyperparameters, write_gguf_of, write_tiny_model

pytestmark = pytest.mark.usefixtures("patched_library")

U32, F32 = GGUFValueType.UINT32, GGUFValueType.FLOAT32
Keys = dict[str, tuple[GGUFValueType, object]]

GOOD: Keys = {
    "schema": (U32, 1),
    "native": (GGUFValueType.BOOL, False),
    "train_length": (U32, 64),
    "target_length": (U32, 256),
    "rope.schedule_lengths": (U32, [256]),
    "rope.schedule_factors": (F32, [1.5] * 8),
    "rope.schedule_attention_factors": (F32, [1.0]),
}
MAPPED: Keys = {
    "position.kind": (GGUFValueType.STRING, "mirrored"),
    "position.period": (U32, 128),
    "position.first_pair": (U32, 2),
}


def write_keys(keys: Keys) -> Callable[[GGUFWriter], None]:
    def write(writer: GGUFWriter) -> None:
        for name, (kind, value) in keys.items():
            key = f"ropewalk.{name}"
            if isinstance(value, list):
                writer.add_key_value(key, value, GGUFValueType.ARRAY, sub_type=kind)
            else:
                writer.add_key_value(key, value, kind)

    return write


def refusal(tmp_path: Path, keys: Keys) -> str:
    """The library's sentence for a tiny model with these keys; a test failure if it runs it."""
    model = write_tiny_model(tmp_path / "model.gguf", extra_keys=write_keys(keys))
    context_plan.last_error()
    with pytest.raises(LibraryRefusedError):
        library_logits(model.path, [5, 6, 7])
    return context_plan.last_error()


def test_the_keys_that_the_others_spoil_are_good(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "model.gguf", extra_keys=write_keys({**GOOD, **MAPPED}))
    assert np.isfinite(library_logits(model.path, [5, 6, 7])).all()


@pytest.mark.parametrize(
    ("spoiled", "sentence"),
    [
        ({"schema": (U32, 2)}, "has schema 2, and this library reads up to 1"),
        ({"schema": (GGUFValueType.UINT64, 1)}, "ropewalk.schema is not of the type"),
        ({"target_length": (U32, 32)}, "extends 64 tokens to 32"),
        ({"rope.schedule_factors": (F32, [1.5] * 7)}, "factors for 7 pairs, but the model rotates 8"),
        ({"rope.schedule_factors": (U32, [1] * 8)}, "ropewalk.rope.schedule_factors is not of the type"),
        ({"rope.schedule_factors": (F32, [1.5] * 7 + [float("nan")])}, "frequency factor of nan"),
        ({"rope.schedule_factors": (F32, [1.5] * 7 + [float("inf")])}, "frequency factor of inf"),
        ({"rope.schedule_factors": (F32, [1.5] * 7 + [0.0])}, "frequency factor of 0"),
        ({"rope.schedule_factors": (F32, [1.5] * 7 + [1e-38])}, "must be from 1e-6 to 1e30"),
        ({"rope.schedule_attention_factors": (F32, [1e30])}, "attention factor of 1e+30"),
        ({"rope.schedule_attention_factors": (F32, [1.0, 1.0])}, "sizes do not belong together"),
        (
            {
                "rope.schedule_lengths": (U32, [128, 128]),
                "rope.schedule_factors": (F32, [1.5] * 16),
                "rope.schedule_attention_factors": (F32, [1.0, 1.0]),
            },
            "lengths do not rise",
        ),
        ({"rope.schedule_lengths": (U32, [255])}, "does not end at its target length"),
        ({"rope.layers": (U32, [0, 9])}, "names layer 9, but the model has 2"),
        ({**MAPPED, "position.kind": (GGUFValueType.STRING, "spiral")}, "position.kind is spiral"),
        ({**MAPPED, "position.period": (U32, 127)}, "period of 127"),
        ({**MAPPED, "position.first_pair": (U32, 8)}, "from pair 8 on, but has 8 pairs"),
        ({"logn.length": (U32, 1)}, "LogN length is 1"),
        ({"logn.length": (U32, 2**31)}, "LogN length is 2147483648"),
        ({"attention.windows": (U32, [32])}, "windows for 1 layers, but the model has 2"),
        ({"attention.windows": (U32, [2**31 - 1, 0])}, "a window of 2147483647 tokens and 0 sinks"),
        ({"attention.windows": (U32, [0, 0]), "attention.sinks": (U32, 4)}, "has 4 sinks, but no layer"),
        ({"attention.streaming": (GGUFValueType.BOOL, True)}, "not every layer has a window"),
    ],
)
def test_a_plan_that_cannot_be_executed_is_refused(tmp_path: Path, spoiled: Keys, sentence: str) -> None:
    assert sentence in refusal(tmp_path, {**GOOD, **spoiled})


def test_another_context_leaves_no_stale_sentence(tmp_path: Path) -> None:
    refused = write_tiny_model(tmp_path / "refused.gguf", extra_keys=write_keys({**GOOD, "schema": (U32, 9)}))
    plain = write_tiny_model(tmp_path / "plain.gguf")
    with pytest.raises(LibraryRefusedError):
        library_logits(refused.path, [5])
    library_logits(plain.path, [5])
    assert context_plan.last_error() == ""


_STEPS = tuple(ScheduleStep(length, (scale,) * 8) for length, scale in ((128, 1.5), (256, 2.0)))
_TURNING = {
    "streams": ContextPlan("test", 64, 256, schedule=_STEPS[1:], windows=(16, 16), streaming=True),
    "changes its factors with the length": ContextPlan("test", 64, 256, schedule=_STEPS),
}


@pytest.mark.parametrize("arch", ["hunyuan-dense", "maincoder"])
@pytest.mark.parametrize("what", _TURNING)
def test_keys_that_are_normalized_after_the_rotation_are_not_turned(
    tmp_path: Path, arch: str, what: str
) -> None:
    """A Qwen3 by its tensors; its norm's weights stand between the rotation and the cache."""
    path = tmp_path / "model.gguf"
    model = write_tiny_model(path, arch="qwen3")
    write_gguf_of(arch, path, model.tensors, lambda writer: add_hyperparameters(writer, model))
    plan = _TURNING[what]
    context_plan.last_error()
    with (
        pytest.raises(LibraryRefusedError),
        loaded(path, 256, prepare=lambda handle: context_plan.set_plan(handle, plan)),
    ):
        pass
    assert f"the context plan {what}, which the normalized keys of {arch} do not allow" in (
        context_plan.last_error()
    )
    alone = replace(plan, schedule=_STEPS[1:], streaming=False)  # its windows, which turn nothing
    with loaded(path, 256, prepare=lambda handle: context_plan.set_plan(handle, alone)) as context:
        assert np.isfinite(context.decode([5, 6, 7])).all()
