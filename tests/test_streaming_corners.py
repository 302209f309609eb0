"""Streams where callers do what is seldom done: right all the same, or refused with a sentence.

Oracle: `streaming_transformer`, in float64, over the whole text that the stream holds afterwards.
"""

from __future__ import annotations

from collections.abc import Callable

import llama_cpp
import numpy as np
import pytest

from library_logits import LoadedContext
from ropewalk.backend import context_plan
from streaming_transformer import Stream, streaming_logits
from tiny_models import TinyModel, write_tiny_model
from windowed_contexts import (
    largest_difference,
    opened,
    random_tokens,
    restored,
    saved,
    streaming_plan,
    with_plan,
)

pytestmark = pytest.mark.usefixtures("patched_library")

BOUND = 1e-3
N_CTX = 512
N_LAYER = 3
FACTORS = tuple(float(f) for f in np.float32(4.0 ** (np.arange(8) / 7)))
TOKENS, OTHER = random_tokens(200, seed=1), random_tokens(100, seed=2)
LATE = 4_000_000


def stream(window: int, sinks: int) -> Stream:
    return Stream((window,) * N_LAYER, sinks, FACTORS)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return write_tiny_model(tmp_path_factory.mktemp("corners") / "model.gguf", n_layer=N_LAYER, seed=112)


@pytest.mark.parametrize(("window", "sinks"), [(4, 20), (8, 32), (8, 33), (8, 40), (8, 100)])
def test_more_sinks_than_four_windows(model: TinyModel, window: int, sinks: int) -> None:
    """A period of four windows would begin anew before all sinks are read."""
    many = stream(window, sinks)
    want = streaming_logits(model, TOKENS, many)
    for size in (len(TOKENS), 7):
        with opened(model.path, N_CTX, prepare=with_plan(streaming_plan(many))) as context:
            parts = [context.decode(TOKENS[i : i + size], i) for i in range(0, len(TOKENS), size)]
        assert largest_difference(np.concatenate(parts), want) <= BOUND


EMPTIED: dict[str, Callable[[LoadedContext], bool]] = {
    "removed": lambda context: llama_cpp.llama_memory_seq_rm(context.memory, 0, -1, -1),
    "removed-from-0": lambda context: llama_cpp.llama_memory_seq_rm(context.memory, 0, 0, -1),
    "removed-all-sequences": lambda context: llama_cpp.llama_memory_seq_rm(context.memory, -1, -1, -1),
    "cleared": lambda context: llama_cpp.llama_memory_clear(context.memory, True) is None,
}


@pytest.mark.parametrize("emptied", EMPTIED)
@pytest.mark.parametrize("sinks", [0, 4])
def test_a_late_stream_is_emptied_and_begun_anew(model: TinyModel, sinks: int, emptied: str) -> None:
    """At position 0, before which no period has passed."""
    fresh = stream(16, sinks)
    with opened(model.path, N_CTX, prepare=with_plan(streaming_plan(fresh))) as context:
        context.decode(TOKENS[:30], LATE)
        assert EMPTIED[emptied](context)
        got = context.decode(OTHER)
    assert largest_difference(got, streaming_logits(model, OTHER, fresh)) <= BOUND


@pytest.mark.parametrize("sinks", [0, 4])
def test_an_empty_state_empties(model: TinyModel, sinks: int) -> None:
    fresh = stream(16, sinks)
    with opened(model.path, N_CTX, prepare=with_plan(streaming_plan(fresh))) as context:
        state = saved(context)
        context.decode(TOKENS)
        assert restored(context, state)
        assert llama_cpp.llama_memory_seq_pos_max(context.memory, 0) == -1
        got = context.decode(OTHER)
    assert largest_difference(got, streaming_logits(model, OTHER, fresh)) <= BOUND


def test_a_state_is_not_restored_into_another_sequence(model: TinyModel) -> None:
    """The stream has sequence 0 alone, whose text is not touched."""
    four_sinks = stream(16, 4)
    with opened(model.path, N_CTX, prepare=with_plan(streaming_plan(four_sinks))) as context:
        context.decode(TOKENS[:40])
        state = saved(context)
        context.decode(TOKENS[40:150], 40)
        context_plan.last_error()
        assert not restored(context, state, 1)
        assert "the sequence 0 alone, so a state cannot be restored into 1" in context_plan.last_error()
        got = context.decode(TOKENS[150:], 150)
    assert largest_difference(got, streaming_logits(model, TOKENS, four_sinks)[150:]) <= BOUND
