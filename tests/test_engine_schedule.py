"""The engine reserves what it reads: a text is computed under the factors for its own length at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ropewalk.engine import Engine, EngineOptions
from ropewalk_plan import ContextPlan, GgufHeader, ScheduleStep, make_plan, rope_spec_from_gguf
from tiny_models import write_tiny_model

pytestmark = pytest.mark.usefixtures("patched_library")

TEXT = "the thing is that an answer is in the rope, and the rope is in the thing. "


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Heads of 64 numbers, so that keys can be quantized."""
    path = tmp_path_factory.mktemp("schedule") / "wide.gguf"
    return write_tiny_model(path, n_embd=128, n_head=2, n_head_kv=1, head_dim=64, train_length=64).path


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine.start() as engine:
        yield engine


@pytest.fixture(scope="module")
def dynamic(model: Path) -> ContextPlan:
    return make_plan(rope_spec_from_gguf(GgufHeader.read(model)), "dynamic-ntk", 512)


def static_step(plan: ContextPlan, n_tokens: int) -> ContextPlan:
    """The plan's factors for so many tokens, as a static plan."""
    step = next(step for step in plan.schedule if step.up_to_length >= n_tokens)
    only = ScheduleStep(plan.target_length, step.frequency_factors, step.attention_factor)
    return ContextPlan("one step", plan.train_length, plan.target_length, schedule=(only,))


def answer(
    engine: Engine, model: Path, plan: ContextPlan, text: str, kv_type: str = "f16"
) -> tuple[int, ...]:
    engine.load(model, EngineOptions(n_ctx=512, threads=1, batch_size=32, kv_type=kv_type, plan=plan))
    return go_on(engine, text)


def go_on(engine: Engine, text: str) -> tuple[int, ...]:
    engine.prefill(engine.tokenize(text))
    generation = engine.generate(4, stop_at_eog=False)
    list(generation)
    return generation.result.token_ids


@pytest.mark.parametrize("repeats", [1, 2, 4])
def test_a_text_is_read_under_the_factors_for_its_length(
    engine: Engine, model: Path, dynamic: ContextPlan, repeats: int
) -> None:
    assert len(dynamic.schedule) > 3
    engine.load(model, EngineOptions(n_ctx=512))
    n_tokens = len(engine.tokenize(TEXT * repeats))
    static = static_step(dynamic, n_tokens)
    assert answer(engine, model, dynamic, TEXT * repeats) == answer(engine, model, static, TEXT * repeats)


def test_quantized_keys_get_the_factors_for_the_whole_context(
    engine: Engine, model: Path, dynamic: ContextPlan
) -> None:
    whole = static_step(dynamic, 512)
    assert answer(engine, model, dynamic, TEXT * 2, "q8_0") == answer(engine, model, whole, TEXT * 2, "q8_0")
    longer = go_on(engine, TEXT * 5)
    engine.load(model, EngineOptions(n_ctx=512, threads=1, batch_size=32, kv_type="q8_0", plan=dynamic))
    assert go_on(engine, TEXT * 2) != longer
    assert go_on(engine, TEXT * 5) == longer


def test_an_answer_may_cross_into_the_next_step(engine: Engine, model: Path, dynamic: ContextPlan) -> None:
    engine.load(model, EngineOptions(n_ctx=512, threads=1, batch_size=32, plan=dynamic))
    engine.prefill(engine.tokenize(TEXT)[:62])
    generation = engine.generate(60, stop_at_eog=False)
    list(generation)
    assert generation.result.reason == "length"
    assert len(generation.result.token_ids) == 60


def test_the_beginning_of_a_text_is_read_under_the_factors_that_all_of_it_will_need(
    engine: Engine, model: Path, dynamic: ContextPlan
) -> None:
    whole = static_step(dynamic, 400)
    engine.load(model, EngineOptions(n_ctx=512, threads=1, batch_size=32, plan=dynamic))
    tokens = engine.tokenize(TEXT * 5)
    engine.prefill(tokens[:40], reserve=400)
    engine.prefill(tokens, reserve=400)
    generation = engine.generate(4, stop_at_eog=False)
    list(generation)
    assert generation.result.token_ids == answer(engine, model, whole, TEXT * 5)
    assert generation.result.token_ids != answer(engine, model, dynamic, TEXT * 5)
