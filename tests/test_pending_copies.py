"""A copy between streams that is still to be made, and a state restored over it: the state stays.

llama.cpp copies a stream's cells when it computes next; without a plan the copy then overwrites what was
restored meanwhile. Oracle: the float64 memory of windows.
"""

from __future__ import annotations

import dataclasses

import llama_cpp
import pytest

from library_logits import Mode
from mode_plans import PLANS, in_force, write_model
from ropewalk_plan import ContextPlan
from tiny_models import TinyModel
from windowed_contexts import (
    decode_rows,
    in_sequence,
    largest_difference,
    opened,
    random_tokens,
    restored,
    saved,
    windows_plan,
    with_plan,
)
from windowed_memory import windowed_logits

pytestmark = pytest.mark.usefixtures("patched_library")

BOUND = 1e-3
STREAMS = Mode(n_seq_max=2)
COPIED, SAVED = random_tokens(65, seed=1), random_tokens(35, seed=2)
ALL_PLANS: dict[str, ContextPlan] = {
    "windows": windows_plan((16, 0), 2),
    "factors": PLANS["factors"],
    "windows-and-factors": dataclasses.replace(PLANS["factors"], windows=(16, 0), sinks=2),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return write_model(tmp_path_factory.mktemp("pending") / "model.gguf", "llama")


@pytest.mark.parametrize("name", ALL_PLANS)
def test_a_restored_state_is_not_copied_over(model: TinyModel, name: str) -> None:
    plan = ALL_PLANS[name]
    with opened(model.path, 512, STREAMS, with_plan(plan)) as context:
        decode_rows(context, in_sequence(SAVED[:30], 0, 1))
        state = saved(context, 1)
        assert llama_cpp.llama_memory_seq_rm(context.memory, 1, -1, -1)
        decode_rows(context, in_sequence(COPIED[:60], 0, 0))
        llama_cpp.llama_memory_seq_cp(context.memory, 0, 1, -1, -1)
        assert restored(context, state, 1)
        got = decode_rows(context, in_sequence(SAVED[30:], 30, 1))
        beside = decode_rows(context, in_sequence(COPIED[60:], 60, 0))
    for tokens, logits in ((SAVED, got), (COPIED, beside)):
        under = in_force(model, plan, len(tokens))
        want = windowed_logits(model, tokens, plan.windows or (0, 0), plan.sinks, under)
        assert largest_difference(logits, want[-len(logits) :]) <= BOUND
