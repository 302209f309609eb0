"""What does not go together with streaming: refused by the library, in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import llama_cpp
import numpy as np
import pytest

from library_logits import LibraryRefusedError, Mode
from ropewalk.backend import context_plan
from ropewalk_plan import PositionKind, PositionMap, ScheduleStep
from streaming_transformer import Stream
from tiny_models import TinyModel, write_tiny_model
from windowed_contexts import (
    TARGET_LENGTH,
    TRAIN_LENGTH,
    assert_set_refuses,
    in_sequence,
    opened,
    random_tokens,
    streaming_plan,
    try_decode,
    with_plan,
)

pytestmark = pytest.mark.usefixtures("patched_library")

FACTORS = tuple(float(f) for f in np.float32(4.0 ** (np.arange(8) / 7)))
PLAN = streaming_plan(Stream((64, 64), 4, FACTORS))
STEPS = (ScheduleStep(128, FACTORS), ScheduleStep(TARGET_LENGTH, tuple(2 * f for f in FACTORS)))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return write_tiny_model(tmp_path_factory.mktemp("stream") / "model.gguf", n_layer=2, seed=121)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"windows": (64, 0)}, "not every layer has a window"),
        ({"windows": ()}, "not every layer has a window"),
        ({"schedule": STEPS}, "one list of factors"),
        ({"schedule": ()}, "one list of factors"),
        ({"position_map": PositionMap(PositionKind.PERIODIC, TRAIN_LENGTH, 3)}, "a position map or LogN"),
        ({"logn_length": TRAIN_LENGTH}, "a position map or LogN"),
        ({"windows": (64, 64, 64)}, "windows for 3 layers, but the model has 2"),
        ({"rope_layers": (1,)}, "every layer"),
    ],
    ids=["dense-layer", "no-windows", "steps", "no-factors", "map", "logn", "other-model", "some-layers"],
)
def test_plans(model: TinyModel, changes: dict[str, Any], why: str) -> None:
    """In the C form: `ContextPlan` says no to most of them itself."""
    params = context_plan.to_params(replace(PLAN, **{"streaming": False, "sinks": 0, **changes}))
    params.streaming = 1
    with opened(model.path, 64, prepare=lambda handle: assert_set_refuses(handle, params, why)) as context:
        assert try_decode(context, in_sequence([5, 6], 0)) == 0


def test_several_sequences(model: TinyModel) -> None:
    context_plan.last_error()
    for unified in (False, True):
        mode = Mode(n_seq_max=2, kv_unified=unified)
        with pytest.raises(LibraryRefusedError), opened(model.path, 256, mode, with_plan(PLAN)):
            pass
        assert "sequence" in context_plan.last_error()


MOVES: dict[str, Callable[[llama_cpp.llama_memory_t], object]] = {
    "add": lambda memory: llama_cpp.llama_memory_seq_add(memory, 0, 100, -1, 5),
    "divide": lambda memory: llama_cpp.llama_memory_seq_div(memory, 0, 100, -1, 2),
}


def test_a_stream_cannot_be_shifted(model: TinyModel) -> None:
    with opened(model.path, 256, prepare=with_plan(PLAN)) as context:
        assert not llama_cpp.llama_memory_can_shift(context.memory)


@pytest.mark.parametrize("move", MOVES)
def test_who_moves_positions_nevertheless_is_refused_loudly(model: TinyModel, move: str) -> None:
    """By the next decode, with a sentence; an emptied stream begins again."""
    tokens = random_tokens(200, seed=122)
    with opened(model.path, 256, prepare=with_plan(PLAN)) as context:
        context.decode(tokens)
        MOVES[move](context.memory)
        end = llama_cpp.llama_memory_seq_pos_max(context.memory, 0) + 1
        context_plan.last_error()
        assert try_decode(context, in_sequence(tokens[:5], end)) == -2
        assert "empty it and read its text again" in context_plan.last_error()
        llama_cpp.llama_memory_clear(context.memory, True)
        context.decode(tokens)
