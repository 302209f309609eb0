"""Schedules and sequences that a batch does not name: spare ids whose keys count, and keys about to go.

Oracle: the float64 memory of windows under the factors that the schedule has in force.
"""

from __future__ import annotations

import dataclasses

import llama_cpp
import numpy as np
import pytest

from library_logits import Mode
from mode_plans import PLANS, in_force, write_model
from ropewalk.backend import context_plan
from tiny_models import TinyModel
from windowed_contexts import largest_difference, opened, random_tokens, restored, saved, with_plan
from windowed_memory import WindowedMemory

pytestmark = pytest.mark.usefixtures("patched_library")

BOUND = 1e-3
TOKENS, OTHER = random_tokens(140, seed=1), random_tokens(10, seed=2)
SCHEDULE = PLANS["schedule"]
STEP = 144  # for 100 tokens and for 140
QUANTIZED = Mode(kv_type=llama_cpp.GGML_TYPE_Q8_0, flash_attention=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return write_model(tmp_path_factory.mktemp("sequences") / "model.gguf", "llama")


@pytest.mark.parametrize(("windows", "sinks"), [((), 0), ((16, 0), 2)], ids=["dense", "windows"])
def test_a_text_kept_under_a_spare_id_keeps_its_step(
    model: TinyModel, windows: tuple[int, ...], sinks: int
) -> None:
    """A context of one sequence takes every id in copies; meanwhile another text is read under id 0."""
    plan = dataclasses.replace(SCHEDULE, windows=windows, sinks=sinks)
    under_step = in_force(model, plan, STEP)
    memory = WindowedMemory(model, windows or (0, 0), sinks, under_step)
    memory.decode(TOKENS[:100])
    with opened(model.path, 512, prepare=with_plan(plan)) as context:
        context.decode(TOKENS[:100])
        llama_cpp.llama_memory_seq_cp(context.memory, 0, 1, -1, -1)
        assert llama_cpp.llama_memory_seq_rm(context.memory, 0, -1, -1)
        other = context.decode(OTHER)
        assert context_plan.length_in_force(context.context) == STEP
        assert llama_cpp.llama_memory_seq_rm(context.memory, 0, -1, -1)
        llama_cpp.llama_memory_seq_cp(context.memory, 1, 0, -1, -1)
        assert llama_cpp.llama_memory_seq_rm(context.memory, 1, -1, -1)
        got = context.decode(TOKENS[100:], 100)
    of_other = WindowedMemory(model, windows or (0, 0), sinks, under_step).read(OTHER)
    assert largest_difference(other, of_other) <= BOUND
    assert largest_difference(got, memory.read(TOKENS[100:], 100)) <= BOUND


def test_quantized_keys_about_to_go_need_not_be_turned(model: TinyModel) -> None:
    """A state of a later step is restored over its own sequence, and goes on bit for bit."""
    with opened(model.path, 256, QUANTIZED, with_plan(SCHEDULE)) as context:
        context.decode(TOKENS[:120])
        state = saved(context)
        went_on = context.decode(TOKENS[120:], 120)
    with opened(model.path, 256, QUANTIZED, with_plan(SCHEDULE)) as context:
        context.decode(TOKENS[:5])
        assert context_plan.length_in_force(context.context) == 64
        context_plan.last_error()
        assert restored(context, state), context_plan.last_error()
        assert context_plan.length_in_force(context.context) == STEP
        assert np.array_equal(context.decode(TOKENS[120:], 120), went_on)
