"""Windows emptied in ways seldom used, and begun anew: as if nothing had been read.

Oracle: the float64 transformer with windows, over the text that was read afterwards alone.
"""

from __future__ import annotations

import llama_cpp
import pytest

from reference_transformer import Float64
from ropewalk.backend import context_plan
from tiny_models import TinyModel, write_tiny_model
from windowed_contexts import (
    in_sequence,
    largest_difference,
    opened,
    random_tokens,
    restored,
    restored_whole,
    saved,
    saved_whole,
    try_decode,
    windows_plan,
    with_plan,
)
from windowed_memory import windowed_logits

pytestmark = pytest.mark.usefixtures("patched_library")

BOUND = 1e-3
WINDOWS, SINKS = (16, 0, 32), 2
PREPARE = with_plan(windows_plan(WINDOWS, SINKS))
BEFORE, AFTER = random_tokens(60, seed=1), random_tokens(40, seed=2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return write_tiny_model(tmp_path_factory.mktemp("emptied") / "model.gguf", n_layer=3, seed=112)


@pytest.fixture(scope="module")
def want(model: TinyModel) -> Float64:
    return windowed_logits(model, AFTER, WINDOWS, SINKS)


@pytest.mark.parametrize("whole", [False, True], ids=["sequence", "whole"])
def test_an_empty_state_empties(model: TinyModel, want: Float64, whole: bool) -> None:
    with opened(model.path, 256, prepare=PREPARE) as context:
        state = saved_whole(context) if whole else saved(context)
        context.decode(BEFORE)
        assert restored_whole(context, state) if whole else restored(context, state)
        assert llama_cpp.llama_memory_seq_pos_max(context.memory, 0) == -1
        assert largest_difference(context.decode(AFTER), want) <= BOUND


@pytest.mark.parametrize("ranges", [((20, -1), (0, 20)), ((0, 20), (20, -1)), ((0, 1), (1, 1000))])
def test_a_blocked_sequence_emptied_in_two_ranges_is_free(
    model: TinyModel, want: Float64, ranges: tuple[tuple[int, int], ...]
) -> None:
    """60 tokens at 30 positions after a division, which windows refuse until nothing is left."""
    first, second = ranges
    with opened(model.path, 256, prepare=PREPARE) as context:
        context.decode(BEFORE)
        llama_cpp.llama_memory_seq_div(context.memory, 0, 0, -1, 2)
        assert llama_cpp.llama_memory_seq_rm(context.memory, 0, *first)
        end = llama_cpp.llama_memory_seq_pos_max(context.memory, 0) + 1
        assert end > 0
        context_plan.last_error()
        assert try_decode(context, in_sequence(AFTER[:1], end)) == -2
        assert "divided" in context_plan.last_error()
        assert llama_cpp.llama_memory_seq_rm(context.memory, 0, *second)
        assert llama_cpp.llama_memory_seq_pos_max(context.memory, 0) == -1
        assert largest_difference(context.decode(AFTER), want) <= BOUND
