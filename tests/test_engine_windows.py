"""The engine under windows and streams: what it keeps, what it reads again, and that answers are the same.

Caches have 256 cells at least (the library rounds up), so texts here are longer than that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ropewalk.documents import Document
from ropewalk.engine import Engine, EngineError, EngineOptions, ModelLoadError, SamplingOptions
from ropewalk.sessions import ReadingSession, ReadProgress
from ropewalk_plan import ContextPlan, GgufHeader, make_plan, rope_spec_from_gguf
from streaming_transformer import Stream, streaming_logits
from tiny_gemma3 import write_tiny_gemma3
from tiny_models import TinyModel, write_tiny_model
from windowed_memory import windowed_logits

pytestmark = pytest.mark.usefixtures("patched_library")

WINDOW, SINKS, CELLS = 32, 4, 256
OPTIONS = EngineOptions(n_ctx=2048, threads=1, batch_size=16, ubatch_size=16, kv_type="f32")
TEXT = "the thing is that an answer is in the rope, and the rope is in the thing. "


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine.start() as engine:
        yield engine


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return write_tiny_model(tmp_path_factory.mktemp("windows") / "model.gguf", train_length=64)


def made(model: TinyModel, method: str, **options: str) -> ContextPlan:
    return make_plan(rope_spec_from_gguf(GgufHeader.read(model.path)), method, 256, options=options)


@pytest.fixture(scope="module")
def plans(model: TinyModel) -> dict[str, ContextPlan]:
    return {
        "windows": made(model, "windows", windows=str(WINDOW), sinks=str(SINKS)),
        "one-dense-layer": made(model, "windows", windows=f"{WINDOW}/0", sinks=str(SINKS)),
        "growing": made(model, "dynamic-ntk+windows", windows=str(WINDOW)),
        "stream": made(model, "streaming", window=str(WINDOW), sinks=str(SINKS)),
    }


NAMES = ("windows", "one-dense-layer", "growing", "stream")
NOT_GROWING = tuple(name for name in NAMES if name != "growing")


def tokens_of(count: int, seed: int) -> list[int]:
    return [int(token) for token in np.random.default_rng(seed).integers(3, 360, count)]


def answer(engine: Engine, tokens: list[int], count: int = 6) -> tuple[int, ...]:
    """Tokens that follow; those before must have been read."""
    generation = engine.generate(count, stop_at_eog=False)
    list(generation)
    return generation.result.token_ids


def fresh(engine: Engine, model: TinyModel, plan: ContextPlan, tokens: list[int]) -> tuple[int, ...]:
    engine.load(model.path, dataclasses.replace(OPTIONS, plan=plan))
    assert engine.prefill(tokens).cached_tokens == 0
    return answer(engine, tokens)


def oracle(model: TinyModel, plan: ContextPlan) -> Callable[[list[int]], np.ndarray]:
    """Logits of the last of these tokens, in float64."""
    if plan.streaming:
        stream = Stream(plan.windows, plan.sinks, plan.frequency_factors)
        return lambda tokens: streaming_logits(model, tokens, stream)[-1]
    return lambda tokens: windowed_logits(model, tokens, plan.windows, plan.sinks)[-1]


@pytest.mark.parametrize("name", NOT_GROWING)
def test_a_long_text_is_answered_as_in_float64(
    engine: Engine, model: TinyModel, plans: dict[str, ContextPlan], name: str
) -> None:
    """Far beyond L', which is 256 here."""
    tokens = tokens_of(700, seed=1)
    last_logits = oracle(model, plans[name])
    expected: list[int] = []
    for _ in range(3):
        expected.append(int(np.argmax(last_logits([*tokens, *expected]))))
    assert fresh(engine, model, plans[name], tokens)[:3] == tuple(expected)


@pytest.mark.parametrize("name", NAMES)
def test_a_second_question_keeps_the_document(
    engine: Engine, model: TinyModel, plans: dict[str, ContextPlan], name: str
) -> None:
    """As long as its caches still hold the window before the question."""
    document = tokens_of(500, seed=2)
    first, second = ([*document, *tokens_of(20, seed=seed)] for seed in (3, 4))
    expected = fresh(engine, model, plans[name], second)
    fresh(engine, model, plans[name], first)

    assert engine.prefill(second).cached_tokens >= len(document)
    assert answer(engine, second) == expected


@pytest.mark.parametrize("length", [300, 500, 507, 641])
@pytest.mark.parametrize("method", ["windows", "streaming"])
def test_a_question_as_long_as_a_micro_batch_never_costs_the_document(
    engine: Engine, model: TinyModel, method: str, length: int
) -> None:
    """Window, sinks and micro-batch fill the cache here: 236 + 4 + 16 of 256 cells."""
    option = {"windows": "236"} if method == "windows" else {"window": "236"}
    plan = made(model, method, sinks="4", **option)
    document = tokens_of(length, seed=12)
    engine.load(model.path, dataclasses.replace(OPTIONS, plan=plan))
    for seed in range(20, 26):
        question = tokens_of(10, seed)
        assert engine.prefill([*document, *question]).cached_tokens in (
            0 if seed == 20 else length,
            length + 1,
        )
        answer(engine, question, count=7)  # six of which are held


@pytest.mark.parametrize("name", NAMES)
def test_what_a_window_has_left_behind_is_read_again(
    engine: Engine, model: TinyModel, plans: dict[str, ContextPlan], name: str
) -> None:
    document = tokens_of(300, seed=5)
    first, second = ([*document, *tokens_of(count, seed=count)] for count in (CELLS + 50, 20))
    expected = fresh(engine, model, plans[name], second)
    fresh(engine, model, plans[name], first)

    assert engine.prefill(second).cached_tokens == 0
    assert answer(engine, second) == expected


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n_ctx", [800, 4096])
def test_a_resize_keeps_what_was_read(
    engine: Engine, model: TinyModel, plans: dict[str, ContextPlan], name: str, n_ctx: int
) -> None:
    """Out of one context and into another; the windowed caches are as large in both."""
    tokens = tokens_of(700, seed=6)
    longer = [*tokens, *tokens_of(30, seed=7)]
    expected = fresh(engine, model, plans[name], longer)
    engine.load(model.path, dataclasses.replace(OPTIONS, plan=plans[name]))
    engine.prefill(tokens)

    engine.resize(n_ctx)

    assert engine.prefill(longer).cached_tokens == len(tokens)
    assert answer(engine, longer) == expected


@pytest.mark.parametrize("name", NAMES)
def test_a_context_may_begin_smaller_than_its_windows(
    engine: Engine, model: TinyModel, plans: dict[str, ContextPlan], name: str
) -> None:
    """A small first context is how every verb loads a model."""
    wide = dataclasses.replace(plans[name], windows=tuple(600 if w else 0 for w in plans[name].windows))
    tokens = tokens_of(900, seed=8)
    expected = fresh(engine, model, wide, tokens)
    engine.load(model.path, dataclasses.replace(OPTIONS, n_ctx=300, plan=wide))
    engine.prefill(tokens[:290])

    engine.resize(1024)

    assert engine.prefill(tokens).cached_tokens == 290
    assert answer(engine, tokens) == expected


@pytest.mark.parametrize("name", NAMES)
def test_a_cancelled_reading_goes_on_where_it_was(
    engine: Engine, model: TinyModel, plans: dict[str, ContextPlan], name: str
) -> None:
    tokens = tokens_of(1500, seed=9)
    expected = fresh(engine, model, plans[name], tokens)
    engine.load(model.path, dataclasses.replace(OPTIONS, plan=plans[name]))
    cancelled = engine.prefill(tokens, lambda done, _total: engine.cancel() if done == 400 else None)

    went_on = engine.prefill(tokens)

    assert went_on.cancelled is False
    if cancelled.cancelled:  # else the tiny model was quicker than the word
        assert 400 <= went_on.cached_tokens < 1500
    assert answer(engine, tokens) == expected


def test_a_micro_batch_that_was_broken_off_leaves_nothing(
    engine: Engine, tmp_path: Path, model: TinyModel
) -> None:
    """Its cells took the place of others, which the text before it does not need any more."""
    slow = write_tiny_model(tmp_path / "slow.gguf", n_layer=4, n_embd=512, n_head=8, head_dim=64, n_ff=2048)
    options = EngineOptions(
        n_ctx=2048,
        threads=1,
        batch_size=512,
        ubatch_size=512,
        plan=made(slow, "windows", windows=str(WINDOW), sinks=str(SINKS)),
    )
    tokens = tokens_of(1300, seed=10)
    engine.load(slow.path, options)
    engine.prefill(tokens)
    expected = answer(engine, tokens)
    engine.load(slow.path, options)
    cancelled = engine.prefill(tokens, lambda done, _total: engine.cancel() if done == 512 else None)
    assert cancelled.cancelled

    went_on = engine.prefill(tokens)

    assert went_on.cached_tokens in (512, 1024)  # whole micro-batches
    assert answer(engine, tokens) == expected


def test_a_stream_of_one_context_holds_many_times_its_target(
    engine: Engine, model: TinyModel, plans: dict[str, ContextPlan]
) -> None:
    """However long, the library is asked for the same memory."""
    engine.load(model.path, dataclasses.replace(OPTIONS, plan=plans["stream"]))
    described = engine.resize(100_000_000)
    assert (described.streams, described.n_ctx) == (True, 100_000_000)

    tokens = tokens_of(20 * 256, seed=11)
    engine.prefill(tokens)
    last = oracle(model, plans["stream"])(tokens)
    assert answer(engine, tokens, count=1) == (int(np.argmax(last)),)


def test_a_session_reads_a_stream_beyond_its_target(
    engine: Engine, model: TinyModel, plans: dict[str, ContextPlan]
) -> None:
    session = ReadingSession(engine, SamplingOptions(temperature=0.0))
    session.load(model.path, dataclasses.replace(OPTIONS, plan=plans["stream"]), lambda _share: None)
    n_tokens = session.open(Document.of_text("rope.txt", TEXT * 20))
    assert n_tokens > 2 * 256
    session.read(ReadProgress())
    for question in ("what?", "where?"):
        read, answered = session.ask(question, 8, ReadProgress(), lambda _text: None)
        assert answered is not None
        assert read.cached_tokens >= n_tokens
    assert [turn.question for turn in session.conversation.turns] == ["what?", "where?"]


def test_a_refusal_is_one_sentence(engine: Engine, tmp_path: Path, plans: dict[str, ContextPlan]) -> None:
    gemma = write_tiny_gemma3(tmp_path / "gemma3.gguf")
    plan = dataclasses.replace(plans["windows"], windows=(WINDOW,) * gemma.n_layer)
    with pytest.raises(ModelLoadError, match=r"gemma3 has windows of its own: bake a method without them$"):
        engine.load(gemma.path, dataclasses.replace(OPTIONS, plan=plan))
    with pytest.raises(EngineError, match="no model is loaded"):
        engine.prefill([5])
