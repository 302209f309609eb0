"""A step's rise that is aborted while it turns the keys: nothing goes on before the memory is empty.

Oracle: the float64 memory of windows, with the schedule's factors in force for what is read afterwards.
"""

from __future__ import annotations

import ctypes
import dataclasses
from collections.abc import Callable

import llama_cpp
import pytest

from abort_callback import AbortCallback
from library_logits import LoadedContext
from mode_plans import PLANS, in_force, write_model
from reference_transformer import Float64, Positions
from ropewalk.backend import context_plan
from ropewalk.backend.errors import PlanRefusedError
from ropewalk_plan import ContextPlan
from tiny_models import TinyModel
from windowed_contexts import in_sequence, largest_difference, opened, random_tokens, try_decode, with_plan
from windowed_memory import WindowedMemory

pytestmark = pytest.mark.usefixtures("patched_library")

BOUND = 1e-3
SENTENCE = "stopped half-way: clear the memory and read the text again"
TOKENS = random_tokens(80, seed=1)
FIRST = 60  # tokens under the first step, which is for 64
WINDOWS, SINKS = (16, 0), 2
SCHEDULES = {
    "dense": PLANS["schedule"],
    "windows": dataclasses.replace(PLANS["schedule"], windows=WINDOWS, sinks=SINKS),
}
EMPTIED: dict[str, Callable[[LoadedContext], object]] = {
    "cleared": lambda context: llama_cpp.llama_memory_clear(context.memory, True),
    "removed": lambda context: llama_cpp.llama_memory_seq_rm(context.memory, 0, -1, -1),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return write_model(tmp_path_factory.mktemp("half") / "model.gguf", "llama")


def exact(model: TinyModel, plan: ContextPlan) -> list[Float64]:
    """Logits of the tokens before the rise and of those with it."""
    length = FIRST

    def now(layer: int, m: Float64) -> Positions:
        return in_force(model, plan, length)(layer, m)

    memory = WindowedMemory(model, plan.windows or (0, 0), plan.sinks, now)
    before = memory.read(TOKENS[:FIRST])
    length = len(TOKENS)
    return [before, memory.read(TOKENS[FIRST:], FIRST)]


def assert_nothing_goes_on(context: LoadedContext) -> None:
    """Neither texts, nor reservations, nor states."""
    for rows in (in_sequence(TOKENS[FIRST:], FIRST), in_sequence(TOKENS[FIRST : FIRST + 1], FIRST)):
        context_plan.last_error()
        assert try_decode(context, rows) == -2
        assert SENTENCE in context_plan.last_error()
    with pytest.raises(PlanRefusedError, match=SENTENCE):
        context_plan.reserve(context.context, 200)
    data = (ctypes.c_uint8 * 10_000_000)()
    context_plan.last_error()
    assert llama_cpp.llama_state_seq_get_data(context.context, data, len(data), 0) == 0
    assert SENTENCE in context_plan.last_error()
    assert llama_cpp.llama_state_get_data(context.context, data, len(data)) == 0
    assert SENTENCE in context_plan.last_error()


@pytest.mark.parametrize("emptied", EMPTIED)
@pytest.mark.parametrize("name", SCHEDULES)
def test_half_turned_keys_are_not_gone_on_with(model: TinyModel, name: str, emptied: str) -> None:
    """Aborted at every question that the library asks while it turns, as long as it turns."""
    plan = SCHEDULES[name]
    want = exact(model, plan)
    stopped = 0
    while True:
        with opened(model.path, 256, prepare=with_plan(plan)) as context:
            abort = AbortCallback(context)
            context.decode(TOKENS[:FIRST])
            context_plan.last_error()
            status = abort.decode(in_sequence(TOKENS[FIRST:], FIRST), stop_after=stopped)
            if status == 2:  # the keys were turned, and the batch itself was aborted
                break
            assert status == -2
            assert SENTENCE in context_plan.last_error()
            assert_nothing_goes_on(context)
            EMPTIED[emptied](context)
            assert largest_difference(context.decode(TOKENS[:FIRST]), want[0]) <= BOUND
            assert largest_difference(context.decode(TOKENS[FIRST:], FIRST), want[1]) <= BOUND
        stopped += 1
    assert stopped >= 2, "the rise was aborted at its beginning and in its midst"
