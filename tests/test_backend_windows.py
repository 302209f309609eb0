"""A context under windows: what it refuses, and how that is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from llama_cpp import llama_cpp as capi

from ropewalk.backend.context import Context, ContextParams, DecodeStatus
from ropewalk.backend.errors import DecodeError
from ropewalk.backend.model import Model
from ropewalk_plan import ContextPlan, ScheduleStep
from tiny_models import write_tiny_model

pytestmark = pytest.mark.usefixtures("patched_library")

TOKENS = [int(token) for token in np.random.default_rng(31).integers(3, 360, 700)]
WINDOWS = ContextPlan("windows", 64, 256, windows=(32, 32), sinks=4)
STREAM = replace(WINDOWS, method="stream", schedule=(ScheduleStep(256, (1.0,) * 8),), streaming=True)
PARAMS = ContextParams(n_ctx=2048, n_batch=64, n_ubatch=64, threads=1, kv_type="f32")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    model = Model.load(write_tiny_model(tmp_path_factory.mktemp("windows") / "model.gguf").path)
    yield model
    model.close()


def opened(model: Model, plan: ContextPlan | None, params: ContextParams = PARAMS) -> Context:
    model.set_plan(plan)
    return Context(model, params)


def read(context: Context, tokens: list[int]) -> np.ndarray:
    """Logits of the last one, [vocabulary]."""
    for at in range(0, len(tokens), context.n_batch):
        assert context.decode(tokens[at : at + context.n_batch]) is DecodeStatus.DONE
    logits: np.ndarray = context.logits()[-1]
    return logits


@pytest.mark.parametrize("plan", [WINDOWS, STREAM], ids=["windows", "stream"])
def test_a_removal_that_reaches_too_far_back_is_refused_and_changes_nothing(
    model: Model, plan: ContextPlan
) -> None:
    context = opened(model, plan)
    try:
        expected = read(context, TOKENS)
        context.forget(0)
        read(context, TOKENS[:-1])
        assert not context.remove_from(300)
        assert context.length == len(TOKENS) - 1
        assert np.abs(read(context, TOKENS[-1:]) - expected).max() < 1e-4
        assert context.remove_from(len(TOKENS) - 10)
        assert context.length == len(TOKENS) - 10
    finally:
        context.close()


@pytest.mark.parametrize(
    ("plan", "sentence"),
    [(STREAM, "cannot be shifted"), (WINDOWS, "no longer holds tokens that the next one would see")],
    ids=["stream", "windows"],
)
def test_what_the_library_refuses_to_decode_is_told_in_its_words(
    model: Model, plan: ContextPlan, sentence: str
) -> None:
    """Positions moved behind our back; an emptied context is as good as new."""
    context = opened(model, plan)
    try:
        expected = read(context, TOKENS)
        capi.llama_memory_seq_add(context._memory, 0, 300, 400, 350)  # out of what is gone to the end
        with pytest.raises(DecodeError, match=sentence) as caught:
            context.decode(TOKENS[:1])
        assert "\n" not in str(caught.value)
        assert not str(caught.value).startswith("llama.cpp failed")
        context.forget(0)
        assert np.abs(read(context, TOKENS) - expected).max() < 1e-4
    finally:
        context.close()


def test_a_state_goes_back_under_its_own_plan_only(model: Model) -> None:
    context = opened(model, WINDOWS)
    try:
        read(context, TOKENS[:600])
        state = context.state()
        expected = read(context, TOKENS[600:])
    finally:
        context.close()

    larger = replace(PARAMS, n_ctx=8192, n_ubatch=32)
    for plan, taken in ((WINDOWS, True), (replace(WINDOWS, sinks=5), False), (STREAM, False), (None, False)):
        context = opened(model, plan, larger)
        try:
            assert context.restore(state) is taken
            assert context.length == (600 if taken else 0)
            if taken:
                assert np.abs(read(context, TOKENS[600:]) - expected).max() < 1e-4
        finally:
            context.close()


def test_what_is_kept_takes_as_much_as_the_windows(model: Model) -> None:
    sizes = []
    for plan in (WINDOWS, None):
        context = opened(model, plan)
        try:
            read(context, TOKENS)
            sizes.append(context.state_size())
        finally:
            context.close()
    assert sizes[0] < 0.1 * sizes[1]  # 36 tokens of 700


def test_a_stream_below_a_full_window_is_the_plain_model_bit_for_bit(model: Model, tmp_path: Path) -> None:
    """Factors of 1 are no factors; the caches are as wide as each other here."""
    wide = replace(STREAM, windows=(400, 400))
    logits = []
    for plan in (wide, None):
        context = opened(model, plan, replace(PARAMS, n_ctx=512))
        try:
            logits.append(read(context, TOKENS[:400]))
        finally:
            context.close()
    assert (logits[0] == logits[1]).all()
