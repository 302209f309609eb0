"""Perplexities against a transformer in float64, and how little is computed for them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from fake_engine import FakeEngine
from method_oracles import ORACLES, Oracle, none
from reference_transformer import reference_logits
from ropewalk.engine import Engine, EngineError, EngineOptions
from ropewalk.evaluation.perplexity import (
    NoNumbersError,
    TextTooShortError,
    first_scored,
    sliding,
    start_tokens,
    truncated,
    truncated_steps,
)
from ropewalk_plan import ContextPlan, GgufHeader, ScheduleStep, make_plan, rope_spec_from_gguf
from tiny_models import TinyModel, write_tiny_model

TRAIN_LENGTH = 64
N_TOKENS = 300
LENGTHS = (30, 128, 300)
OPTIONS = EngineOptions(n_ctx=512, threads=1, kv_type="f32", flash_attention="off", n_scored=64)
CLOSE = 2e-3
GROWING = ContextPlan(
    "growing",
    TRAIN_LENGTH,
    512,
    schedule=tuple(
        ScheduleStep(length, tuple(1.0 + i * k / 4 for i in range(8)))
        for k, length in enumerate((64, 128, 256, 512))
    ),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    path = tmp_path_factory.mktemp("perplexity") / "tiny.gguf"
    return write_tiny_model(path, arch="llama", train_length=TRAIN_LENGTH, seed=3)


@pytest.fixture(scope="module")
def loaded(model: TinyModel, patched_library: None) -> Iterator[Engine]:
    with Engine.start() as engine:
        engine.load(model.path, OPTIONS)
        yield engine


@pytest.fixture
def engine(loaded: Engine) -> Engine:
    loaded.use_plan(None, OPTIONS.n_ctx)
    return loaded


@pytest.fixture
def fake() -> Iterator[FakeEngine]:
    with FakeEngine(plan=None) as engine:
        engine.load(Path("model.gguf"), OPTIONS)
        yield engine


def random_tokens(count: int = N_TOKENS, seed: int = 5) -> list[int]:
    return [int(token) for token in np.random.default_rng(seed).integers(3, 360, count)]


def losses(model: TinyModel, tokens: Sequence[int], oracle: Oracle, target: int = 256) -> np.ndarray:
    """Of each token but the first, [tokens - 1]."""
    logits = reference_logits(model, tokens, oracle(model, target, np.arange(len(tokens), dtype=np.float64)))
    share = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return np.asarray(-np.log(share[np.arange(len(tokens) - 1), np.asarray(tokens[1:])]))


@pytest.mark.parametrize("method", ["none", "yarn", "extra-mpe"])
def test_truncated_is_the_mean_loss_of_the_first_tokens(
    engine: Engine, model: TinyModel, method: str
) -> None:
    tokens, seen = random_tokens(), list[tuple[int, int]]()
    if method != "none":
        spec = rope_spec_from_gguf(GgufHeader.read(model.path))
        engine.use_plan(make_plan(spec, method, 256))

    results = truncated(
        engine, tokens, (128, 30, 300), method=method, on_progress=lambda *told: seen.append(told)
    )

    expected = losses(model, tokens, none if method == "none" else ORACLES[method])
    assert [result.length for result in results] == list(LENGTHS)
    for result in results:
        assert (result.method, result.mode, result.stride) == (method, "truncated", None)
        assert result.n_scored == result.length - 1
        assert result.perplexity == pytest.approx(math.exp(expected[: result.length - 1].mean()), rel=CLOSE)
        assert result.nll == pytest.approx(math.fsum(result.run_nll))
    assert seen[-1] == (300, 300)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert [result.seconds for result in results] == sorted(result.seconds for result in results)


def test_under_a_schedule_each_length_has_its_own_frequencies(engine: Engine, model: TinyModel) -> None:
    engine.use_plan(GROWING)
    tokens, seen = random_tokens(), list[tuple[int, int]]()

    results = truncated(engine, tokens, LENGTHS, method="g", on_progress=lambda *told: seen.append(told))

    theta = model.rope_base ** (-2.0 * np.arange(8) / 16)
    for result, step in zip(results, (0, 1, 3), strict=True):
        factors = np.array(GROWING.schedule[step].frequency_factors)

        def in_force(_model: TinyModel, _target: int, m: np.ndarray, factors: np.ndarray = factors) -> object:
            positions = none(model, 0, m)
            return type(positions)(np.outer(m, theta / factors))

        expected = losses(model, tokens[: result.length], in_force).mean()  # type: ignore[arg-type]
        assert result.perplexity == pytest.approx(math.exp(expected), rel=CLOSE)
    assert seen[-1] == (30 + 128 + 300, 458)


@pytest.mark.parametrize("plan", [None, GROWING], ids=["plain", "schedule"])
def test_what_another_sequence_holds_is_in_nobodys_way(
    engine: Engine, model: TinyModel, plan: ContextPlan | None
) -> None:
    tokens = random_tokens()
    with Engine.start() as two:
        two.load(model.path, dataclasses.replace(OPTIONS, plan=plan, n_ctx=300, n_sequences=2))
        two.prefill(tokens[:40], sequence=1)
        found = truncated(two, tokens, LENGTHS, method="m")
        two.drop_sequence(0)
        two.prefill(tokens[:40], sequence=1)
        slid = sliding(two, tokens, 300, 40, method="m")
    engine.use_plan(plan)
    assert [r.nll for r in found] == pytest.approx(
        [r.nll for r in truncated(engine, tokens, LENGTHS, method="m")], rel=1e-6
    )
    assert slid.n_scored == 40


@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
def test_a_quantized_cache_does_not_change_which_frequencies_those_are(
    model: TinyModel, patched_library: None, kv_type: str
) -> None:
    """Such a context takes those of all that it has room for, whatever is read."""
    path = model.path.parent / f"{kv_type}.gguf"
    wide = write_tiny_model(path, arch="llama", train_length=64, head_dim=32, n_embd=128, seed=4)
    plan = ContextPlan(
        "g",
        64,
        512,
        schedule=tuple(
            ScheduleStep(n, tuple(1.0 + i * k / 8 for i in range(16))) for k, n in enumerate((64, 128, 512))
        ),
    )
    tokens = random_tokens(400)
    with Engine.start() as engine:
        engine.load(wide.path, EngineOptions(n_ctx=512, threads=1, kv_type=kv_type, plan=plan, n_scored=64))
        together = truncated(engine, tokens, (60, 400), method="g")
        engine.load(wide.path, EngineOptions(n_ctx=60, threads=1, kv_type=kv_type, plan=plan, n_scored=64))
        alone = truncated(engine, tokens, (60,), method="g")
        engine.resize(512)
        engine.drop_sequence(0)
        elsewhere = -sum(engine.score(tokens[:60], reserve=512))

    assert together[0].nll == pytest.approx(alone[0].nll, abs=1e-6)
    assert abs(together[0].nll - elsewhere) > 0.1


def test_a_share_of_the_window_may_be_left_out(engine: Engine, model: TinyModel) -> None:
    tokens = random_tokens()
    expected = losses(model, tokens, none)
    for length in (100, 101):
        (result,) = truncated(engine, tokens, (length,), method="none", score_from=0.5)
        half = length // 2  # tokens from half + 1 on: llama-perplexity scores length - 1 - half
        assert result.n_scored == length - 1 - half
        assert result.perplexity == pytest.approx(math.exp(expected[half : length - 1].mean()), rel=CLOSE)
    assert [first_scored(10, share) for share in (0.0, 0.05, 0.5, 0.99)] == [1, 1, 6, 10]


@pytest.mark.parametrize("start", [[], [1]])
def test_sliding_gives_each_token_nearly_a_window(engine: Engine, model: TinyModel, start: list[int]) -> None:
    tokens = random_tokens(200)
    seen: list[tuple[int, int]] = []

    result = sliding(
        engine, tokens, 64, 40, method="none", on_progress=lambda *told: seen.append(told), start=start
    )

    body = 64 - len(start)
    expected = [
        losses(model, [*start, *tokens[end - body : end]], none)[-40:] for end in range(body, 201, 40)
    ]
    assert len(expected) == 4
    assert (result.mode, result.length, result.stride, result.n_scored) == ("sliding", 64, 40, 160)
    assert result.perplexity == pytest.approx(math.exp(np.mean(expected)), rel=CLOSE)
    assert seen[-1] == (256, 256)
    (one,) = (sliding(engine, tokens, 64, 40, method="none", ends=[body + 40], start=start),)
    assert one.perplexity == pytest.approx(math.exp(expected[1].mean()), rel=CLOSE)


def test_one_pass_gives_all_lengths(fake: FakeEngine) -> None:
    tokens = fake.tokenize("The rope is long. " * 50)

    results = truncated(fake, tokens, (10, 100, 200), method="none")

    assert fake.scored == [(0, 10), (9, 100), (99, 200)]
    assert [result.n_scored for result in results] == [9, 99, 199]
    assert results[0].nll == pytest.approx(6 * 4.0 + 3 * 0.5)  # "The rope is long." and the start token


def test_a_stream_is_read_once(fake: FakeEngine) -> None:
    """It cannot go back by the one token that the next length begins with."""
    step = ScheduleStep(512, (1.0,) * 8)
    fake.plan = ContextPlan("s", 64, 512, schedule=(step,), windows=(32, 32), sinks=4, streaming=True)
    fake.can_roll_back = False
    fake.load(Path("model.gguf"), OPTIONS)
    tokens = fake.tokenize("The rope is long. " * 50)

    results = truncated(fake, tokens, (10, 100, 200), method="s")

    assert fake.scored == [(0, 200)]
    assert [result.n_scored for result in results] == [9, 99, 199]


def test_results_come_one_by_one(fake: FakeEngine) -> None:
    steps = truncated_steps(fake, fake.tokenize("a rope " * 50), (10, 20), method="none")

    assert next(steps).length == 10
    fake.score_error = EngineError("the model is gone")
    with pytest.raises(EngineError, match="gone"):
        next(steps)


def test_too_short_a_text_is_said_with_its_tokens(fake: FakeEngine) -> None:
    tokens = fake.tokenize("a rope " * 20)
    for call in (
        lambda: truncated(fake, tokens, (10, 2000), method="none"),
        lambda: sliding(fake, tokens, 2000, 10, method="none"),
    ):
        with pytest.raises(TextTooShortError, match=rf"has {len(tokens)} tokens .* 2,000 are needed"):
            call()


@pytest.mark.parametrize("score", [math.nan, -math.inf])
def test_what_is_no_number_is_refused(fake: FakeEngine, score: float) -> None:
    fake.log_probability = lambda tokens, at, plan: score if at == 7 else -1.0
    with pytest.raises(NoNumbersError, match=r"^Under extra the model computes no number"):
        truncated(fake, fake.tokenize("a rope " * 20), (10,), method="extra")


def test_the_start_token_is_the_models(fake: FakeEngine, engine: Engine, tiny_qwen2: Path) -> None:
    assert fake.words_of(start_tokens(fake)) == ["<|start|>"]
    with Engine.start() as other:
        for path in (engine.model.path if engine.model else Path(), tiny_qwen2):
            other.load(path, EngineOptions(n_ctx=64, vocabulary_only=True))
            before = start_tokens(other)
            text = other.tokenize("a rope", add_special=False)
            assert other.tokenize("a rope")[: len(before) + len(text)] == before + text
