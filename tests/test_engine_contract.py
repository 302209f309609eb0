"""What may be expected of an engine, asked of the real one (with a tiny model) and of the fake one alike."""

from __future__ import annotations

import dataclasses
import inspect
import threading
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from fake_engine import FakeEngine
from fake_worker import FakeWorker
from ropewalk.engine import (
    Cancelled,
    Engine,
    EngineBusy,
    EngineDied,
    EngineError,
    EngineOptions,
    GenerationResult,
    ModelLoadError,
    Piece,
    PromptTooLong,
    StateRefused,
)
from ropewalk.engine.worker import Worker
from ropewalk_plan.plan import ContextPlan, ScheduleStep

N_PAIRS = 8
OPTIONS = EngineOptions(n_ctx=512, threads=1, batch_size=16, ubatch_size=16, n_sequences=2)
PLAN = ContextPlan(
    method="other",
    train_length=128,
    target_length=512,
    schedule=(ScheduleStep(512, tuple(1.0 + i / 4 for i in range(N_PAIRS))),),
)
TEXT = "the thing is that an answer is in the rope, and the rope is in the thing. "

pytestmark = pytest.mark.parametrize("started", ["real", "fake"], indirect=True)


@pytest.fixture(scope="module")
def real() -> Iterator[Engine]:
    with Engine.start() as engine:
        yield engine


@pytest.fixture
def started(request: pytest.FixtureRequest) -> Iterator[Engine]:
    if request.param == "real":
        yield request.getfixturevalue("real")
    else:
        with FakeEngine(plan=None, respond=lambda prompt: " the rope is long " * 40) as fake:
            yield fake


@pytest.fixture
def engine(started: Engine, tiny_llama: Path) -> Engine:
    """A model freshly loaded: nothing is held."""
    started.load(tiny_llama, OPTIONS)
    return started


def _generate(engine: Engine, count: int, sequence: int = 0) -> tuple[list[Piece], GenerationResult]:
    generation = engine.generate(count, stop_at_eog=False, sequence=sequence)
    return list(generation), generation.result


def _answer(engine: Engine, tokens: list[int], count: int = 8, sequence: int = 0) -> tuple[int, ...]:
    engine.prefill(tokens, sequence=sequence)
    return _generate(engine, count, sequence)[1].token_ids


def _text(engine: Engine, n_tokens: int = 100) -> list[int]:
    return engine.tokenize(TEXT * 12)[:n_tokens]


class _Stop:
    """Cancels where progress has come to a share."""

    def __init__(self, engine: Engine, at: float) -> None:
        self.engine, self.at = engine, at

    def __call__(self, done: float, total: float = 1.0) -> None:
        if done >= self.at * total:
            self.engine.cancel()


class TestReading:
    def test_progress_and_result(self, engine: Engine) -> None:
        tokens, seen = _text(engine), list[tuple[int, int]]()

        result = engine.prefill(tokens, lambda done, total: seen.append((done, total)))

        assert seen == [(min(done, 100), 100) for done in range(0, 116, 16)]
        assert (result.prompt_tokens, result.cached_tokens, result.cancelled) == (100, 0, False)

    def test_what_is_held_is_not_read_again(self, engine: Engine) -> None:
        tokens = _text(engine)
        engine.prefill(tokens)

        assert engine.reusable(tokens) == 99
        assert engine.prefill(tokens).cached_tokens == 99
        edited = [*tokens[:60], *tokens[50:]]
        common = next(i for i in range(100) if edited[i] != tokens[i])
        assert engine.reusable(edited) == common
        assert engine.prefill(edited).cached_tokens == common
        assert engine.prefill(edited[:30]).cached_tokens == 29
        assert engine.prefill(edited).cached_tokens == 30

    @pytest.mark.parametrize("at", [0.3, 0.9])
    def test_cancelled_it_goes_on_where_it_was(self, engine: Engine, at: float) -> None:
        tokens = _text(engine, 480)
        whole = _answer(engine, tokens)
        engine.drop_sequence(0)

        first = engine.prefill(tokens, _Stop(engine, at))
        if first.cancelled:  # cancelling may come too late, and then the text is whole
            with pytest.raises(EngineError, match="read a prompt first"):
                list(engine.generate(5))
        held = engine.reusable(tokens)
        second = engine.prefill(tokens)

        assert second.cached_tokens == held
        assert held > 0
        assert _answer(engine, tokens) == whole

    def test_refusals_change_nothing(self, engine: Engine) -> None:
        engine.resize(100)
        tokens = _text(engine, 90)
        engine.prefill(tokens)

        with pytest.raises(PromptTooLong, match="has 101 tokens and the context has room for 100"):
            engine.prefill([5] * 101)
        with pytest.raises(EngineError, match="no tokens"):
            engine.prefill([])
        with pytest.raises(EngineError, match="999999 is not a token of this model"):
            engine.prefill([999_999])
        with pytest.raises(EngineError, match="no sequence 2: the context was made for 2"):
            engine.prefill(tokens, sequence=2)
        assert engine.reusable(tokens) == 89


class TestAnswering:
    def test_pieces_then_the_result(self, engine: Engine) -> None:
        engine.prefill(_text(engine))

        pieces, result = _generate(engine, 20)

        assert [piece.tokens for piece in pieces] == sorted(piece.tokens for piece in pieces)
        assert all(piece.text for piece in pieces)
        assert "".join(piece.text for piece in pieces) == result.text
        assert (result.tokens, len(result.token_ids), result.reason) == (20, 20, "length")

    def test_nothing_is_computed_before_it_is_asked_for(self, engine: Engine) -> None:
        engine.prefill(_text(engine))
        generation = engine.generate(5)

        assert engine.reusable(_text(engine)) == 99
        with pytest.raises(EngineError, match="read all of its pieces first"):
            _ = generation.result

    def test_an_answer_but_for_its_last_token_is_held(self, engine: Engine) -> None:
        tokens = _text(engine)
        answer = _answer(engine, tokens)

        assert engine.prefill([*tokens, *answer, tokens[1]]).cached_tokens == len(tokens) + len(answer) - 1

    def test_the_same_question_has_the_same_answer(self, engine: Engine, tiny_llama: Path) -> None:
        tokens = _text(engine)
        first = _answer(engine, tokens)

        assert _answer(engine, tokens) == first
        engine.load(tiny_llama, OPTIONS)
        assert _answer(engine, _text(engine)) == first

    def test_there_must_be_something_to_go_on_from(self, engine: Engine) -> None:
        for _ in range(2):
            with pytest.raises(EngineError, match="there is nothing to go on from: read a prompt first"):
                list(engine.generate(5))
            _answer(engine, _text(engine))

    def test_a_full_context_ends_it(self, engine: Engine) -> None:
        engine.resize(64)
        engine.prefill(_text(engine, 60))

        result = _generate(engine, 100)[1]

        assert (result.tokens, result.reason) == (5, "length")

    def test_closed_early_it_is_cancelled_and_the_engine_free(self, engine: Engine) -> None:
        tokens = _text(engine)
        whole = _answer(engine, tokens, 60)
        engine.prefill(tokens)
        generation = engine.generate(400, stop_at_eog=False)
        next(generation)
        with pytest.raises(EngineBusy):
            engine.tokenize("a")
        generation.close()

        assert engine.reusable(tokens) == 99
        assert _answer(engine, tokens, 60) == whole

    def test_cancelled_it_says_so(self, engine: Engine) -> None:
        engine.prefill(_text(engine))
        generation = engine.generate(400, stop_at_eog=False)
        next(generation)
        engine.cancel()
        rest = list(generation)

        assert generation.result.reason in ("cancelled", "length")  # it may have come too late
        assert len(rest) < 400


class TestScoring:
    def test_it_goes_on_from_what_is_held(self, engine: Engine) -> None:
        tokens, seen = _text(engine), list[tuple[int, int]]()

        whole = engine.score(tokens, lambda done, total: seen.append((done, total)))

        assert len(whole) == 99
        assert all(one < 0 for one in whole)
        assert seen[0] == (0, 100)
        assert seen[-1] == (100, 100)
        assert [done for done, _ in seen] == sorted({done for done, _ in seen})
        assert engine.reusable(tokens) == 99
        seen.clear()
        later = engine.score(tokens, lambda done, total: seen.append((done, total)), first=60)
        assert seen[0] == (59, 100)
        assert later == pytest.approx(whole[59:], abs=1e-4)

    def test_an_answer_may_follow(self, engine: Engine) -> None:
        tokens = _text(engine)
        alone = _answer(engine, tokens)
        engine.drop_sequence(0)

        engine.score(tokens, first=50)

        assert _generate(engine, 8)[1].token_ids == alone
        engine.score(tokens[:80], sequence=1)
        assert engine.reusable(tokens, sequence=1) == 80

    def test_refused_it_has_changed_nothing(self, engine: Engine) -> None:
        tokens = _text(engine)
        engine.prefill(tokens)

        for first in (0, 100, -1):
            with pytest.raises(EngineError, match=f"100 tokens has nothing to score from token {first} on"):
                engine.score(tokens, first=first)
        with pytest.raises(EngineError, match="is not a token"):
            engine.score([*tokens, 1 << 20])
        with pytest.raises(PromptTooLong, match="600 tokens and the context has room for 512"):
            engine.score(tokens * 6)
        with pytest.raises(EngineError, match="no sequence 2"):
            engine.score(tokens, sequence=2)
        assert engine.reusable([*tokens, tokens[1]]) == 100

    def test_cancelled_it_says_so_and_can_be_done_again(self, engine: Engine) -> None:
        tokens = _text(engine, 480)
        whole = engine.score(tokens)
        engine.drop_sequence(0)

        try:
            engine.score(tokens, _Stop(engine, 0.2))  # it may be too late
        except Cancelled:
            assert 0 < engine.reusable(tokens) < 479

        assert engine.score(tokens) == pytest.approx(whole, abs=1e-4)


class TestPlans:
    def test_the_context_is_made_again_and_empty(self, engine: Engine) -> None:
        tokens = _text(engine)
        alone = _answer(engine, tokens)

        assert (engine.model and engine.model.plan) is None
        model = engine.use_plan(PLAN)
        assert (model, model.plan, model.target_length, model.n_ctx) == (engine.model, PLAN, 512, 512)
        assert engine.reusable(tokens) == 0
        with pytest.raises(EngineError, match="read a prompt first"):
            list(engine.generate(5))
        engine.prefill(tokens, sequence=1)
        model = engine.use_plan(None, 256)
        assert (model, model.plan, model.n_ctx) == (engine.model, None, 256)
        assert engine.prefill(tokens, sequence=1).cached_tokens == 0
        assert _generate(engine, 8, sequence=1)[1].token_ids == alone

    def test_refused_the_old_plan_and_context_stay_and_are_empty(self, engine: Engine) -> None:
        tokens = _text(engine)
        model = engine.use_plan(PLAN, 300)
        alone = _answer(engine, tokens)
        if isinstance(engine, FakeEngine):
            engine.plan_error = ModelLoadError("the plan has factors for 3 pairs and the model has others")

        with pytest.raises(ModelLoadError, match="3 pairs"):
            engine.use_plan(dataclasses.replace(PLAN, schedule=(ScheduleStep(512, (1.0, 2.0, 2.0)),)))

        assert engine.model == model
        assert engine.reusable(tokens) == 0
        assert _answer(engine, tokens) == alone
        if isinstance(engine, FakeEngine):
            engine.plan_error = None
        with pytest.raises(EngineError, match="context length is 0"):
            engine.use_plan(None, 0)
        assert engine.use_plan(None).plan is None

    def test_loading_forgets_it(self, engine: Engine, tiny_llama: Path) -> None:
        engine.use_plan(PLAN)
        assert engine.load(tiny_llama, OPTIONS).plan is None


class TestSequences:
    def test_each_holds_its_own(self, engine: Engine) -> None:
        first, second = _text(engine), _text(engine)[7:90]
        alone = _answer(engine, first), _answer(engine, second)
        engine.drop_sequence(0)

        engine.prefill(first)
        engine.prefill(second, sequence=1)

        assert (engine.reusable(first), engine.reusable(second, sequence=1)) == (99, 82)
        assert _generate(engine, 8)[1].token_ids == alone[0]
        assert _generate(engine, 8, sequence=1)[1].token_ids == alone[1]

    def test_a_copy_takes_no_room_until_it_goes_on(self, engine: Engine) -> None:
        engine.resize(128)
        tokens = _text(engine)
        engine.prefill(tokens)

        assert engine.copy_sequence(0, 1) == 100
        assert engine.reusable(tokens, sequence=1) == 99
        longer = [*tokens, *tokens[1:21]]
        assert engine.prefill(longer, sequence=1).cached_tokens == 100
        with pytest.raises(PromptTooLong, match="beside the other texts the context has room for 108"):
            engine.prefill([*tokens, *tokens[1:21]])
        engine.drop_sequence(1)
        assert engine.prefill(longer).cached_tokens == 100

    def test_a_copy_answers_like_its_source(self, engine: Engine) -> None:
        tokens = _text(engine)
        alone = _answer(engine, tokens)
        engine.prefill(tokens)
        engine.copy_sequence(0, 1)

        assert _generate(engine, 8, sequence=1)[1].token_ids == alone
        assert _generate(engine, 8)[1].token_ids == alone

    def test_copies_and_drops_of_nothing(self, engine: Engine) -> None:
        engine.prefill(_text(engine))

        assert engine.copy_sequence(0, 0) == 100
        assert engine.copy_sequence(1, 0) == 0
        engine.drop_sequence(0)
        assert engine.reusable(_text(engine)) == 0
        for call in (
            lambda: engine.copy_sequence(0, 2),
            lambda: engine.drop_sequence(-1),
            lambda: engine.reusable([1], sequence=5),
        ):
            with pytest.raises(EngineError, match="no sequence"):
                call()


class TestStates:
    def test_what_was_saved_comes_back(self, engine: Engine, tiny_llama: Path, tmp_path: Path) -> None:
        tokens, shares = _text(engine), list[float]()
        alone = _answer(engine, tokens)
        engine.prefill(tokens)
        saved = engine.save_state(tmp_path / "state", shares.append)
        engine.load(tiny_llama, OPTIONS)

        assert saved.tokens == tuple(tokens)
        assert saved.n_bytes == (tmp_path / "state").stat().st_size
        assert len(saved.checksums) == -(-saved.n_bytes // saved.block_bytes)
        assert engine.restore_state(tmp_path / "state", saved, shares.append, sequence=1) == 100
        assert shares.count(1.0) == 2
        with pytest.raises(EngineError, match="read a prompt first"):
            list(engine.generate(5, sequence=1))
        assert engine.prefill(tokens, sequence=1).cached_tokens == 99
        assert _generate(engine, 8, sequence=1)[1].token_ids == alone

    @pytest.mark.parametrize("damage", ["missing", "cut", "flipped", "grown"])
    def test_damaged_files_are_refused_and_the_sequence_empty(
        self, engine: Engine, tmp_path: Path, damage: str
    ) -> None:
        tokens, path = _text(engine), tmp_path / "state"
        engine.prefill(tokens)
        saved = engine.save_state(path)
        data = bytearray(path.read_bytes())
        if damage == "missing":
            path.unlink()
        else:
            data[len(data) // 2] ^= damage == "flipped"
            path.write_bytes({"cut": data[:-1], "flipped": data, "grown": data + b"x"}[damage])

        with pytest.raises(StateRefused, match="state") as caught:
            engine.restore_state(path, saved)

        assert "\n" not in str(caught.value)
        assert engine.reusable(tokens) == 0
        engine.prefill(tokens)

    def test_files_are_not_overwritten_and_must_be_writable(self, engine: Engine, tmp_path: Path) -> None:
        (tmp_path / "state").write_text("mine")
        engine.prefill(_text(engine))

        for path in (tmp_path / "state", tmp_path / "none" / "state"):
            with pytest.raises(StateRefused, match="cannot be written"):
                engine.save_state(path)
        assert (tmp_path / "state").read_text() == "mine"
        assert [path.name for path in tmp_path.iterdir()] == ["state"]

    def test_cancelled_it_leaves_nothing(self, engine: Engine, tmp_path: Path) -> None:
        tokens = _text(engine)
        engine.prefill(tokens)
        try:
            saved = engine.save_state(tmp_path / "state", _Stop(engine, 0))
        except Cancelled:
            assert not list(tmp_path.iterdir())
            saved = engine.save_state(tmp_path / "state")
        try:
            assert engine.restore_state(tmp_path / "state", saved, _Stop(engine, 0)) == 100
        except Cancelled:
            assert engine.reusable(tokens) == 0

    def test_an_empty_sequence_and_a_small_context(self, engine: Engine, tmp_path: Path) -> None:
        with pytest.raises(EngineError, match="nothing to save"):
            engine.save_state(tmp_path / "state", sequence=1)
        engine.prefill(_text(engine))
        saved = engine.save_state(tmp_path / "state")
        engine.resize(64)

        with pytest.raises(PromptTooLong, match="100 tokens and the context has room for 64"):
            engine.restore_state(tmp_path / "state", saved)
        with pytest.raises(EngineError, match="is not a token"):
            engine.restore_state(tmp_path / "state", dataclasses.replace(saved, tokens=(1 << 20,)))


class TestModels:
    def test_nothing_works_before_a_model_is_loaded(self, started: Engine, tmp_path: Path) -> None:
        with Engine.start() if not isinstance(started, FakeEngine) else started as engine:
            for call in (
                lambda: engine.tokenize("a"),
                lambda: engine.detokenize([1]),
                lambda: engine.apply_template([]),
                lambda: engine.prefill([1]),
                lambda: list(engine.generate(1)),
                lambda: engine.copy_sequence(0, 0),
                lambda: engine.drop_sequence(0),
                lambda: engine.save_state(tmp_path / "state"),
                engine.memory,
                lambda: engine.resize(10),
                lambda: engine.use_plan(None),
                lambda: engine.score([1, 2]),
            ):
                with pytest.raises(EngineError, match="no model is loaded: load one first"):
                    call()

    def test_loading_tells_its_progress(self, started: Engine, tiny_llama: Path) -> None:
        shares: list[float] = []

        model = started.load(tiny_llama, OPTIONS, shares.append)

        assert shares == sorted(shares)
        assert shares[-1] == 1.0
        assert (model, model.n_ctx, model.path) == (started.model, 512, tiny_llama)

    def test_a_vocabulary_alone(self, started: Engine, tiny_llama: Path) -> None:
        model = started.load(tiny_llama, EngineOptions(n_ctx=512, vocabulary_only=True))

        assert (model.n_ctx, model.has_chat_template) == (0, True)
        tokens = started.tokenize(TEXT)
        assert started.detokenize(tokens).strip() == TEXT.strip()
        assert started.apply_template([("user", "Why?")], date(2024, 2, 29))
        for call in (lambda: started.prefill(tokens), lambda: started.resize(64), started.memory):
            with pytest.raises(EngineError, match="only the vocabulary was loaded"):
                call()

    def test_resizing_keeps_what_fits(self, engine: Engine) -> None:
        tokens = _text(engine)
        alone = _answer(engine, tokens)
        engine.prefill(tokens)

        assert engine.resize(128).n_ctx == 128
        with pytest.raises(EngineError, match="read a prompt first"):
            list(engine.generate(5))
        assert engine.prefill(tokens).cached_tokens == 99
        assert _generate(engine, 8)[1].token_ids == alone
        engine.resize(64)
        engine.resize(512)
        assert engine.prefill(tokens).cached_tokens == 0

    def test_text_and_tokens(self, engine: Engine) -> None:
        start = engine.tokenize("")

        assert len(start) == 1
        assert engine.tokenize("", add_special=False) == []
        assert engine.tokenize(TEXT) == start + engine.tokenize(TEXT, add_special=False)
        assert engine.detokenize(engine.tokenize(TEXT)).strip() == TEXT.strip()
        assert engine.detokenize(start) == ""
        with pytest.raises(EngineError, match="is not a token"):
            engine.detokenize([1 << 20])

    def test_memory_is_told_by_device(self, engine: Engine) -> None:
        small = engine.memory().devices
        engine.resize(2048)
        large = engine.memory().devices

        assert [one.device for one in small] == ["CPU"]
        assert (small[0].weights, small[0].free > 0) == (large[0].weights, True)
        assert 0 < small[0].cache < large[0].cache

    def test_closed_it_answers_no_more(self, started: Engine, tiny_llama: Path) -> None:
        engine = Engine.start() if not isinstance(started, FakeEngine) else started
        engine.load(tiny_llama, OPTIONS)
        engine.close()
        engine.close()

        with pytest.raises(EngineDied, match="was closed"):
            engine.tokenize("a")

    def test_close_ends_what_another_thread_waits_for(self, started: Engine, tiny_llama: Path) -> None:
        engine = Engine.start() if not isinstance(started, FakeEngine) else started
        engine.load(tiny_llama, EngineOptions(n_ctx=4096, threads=1, batch_size=16, ubatch_size=16))
        tokens = engine.tokenize("") * 4096
        ended: list[str] = []
        begun = threading.Event()

        def read() -> None:
            try:
                result = engine.prefill(tokens, lambda done, total: begun.set())
                ended.append("cancelled" if result.cancelled else "whole")
            except EngineDied:
                ended.append("died")

        thread = threading.Thread(target=read)
        thread.start()
        assert begun.wait(20)
        engine.close()
        thread.join(20)

        assert len(ended) == 1

    def test_a_failed_load_leaves_no_model(self, engine: Engine, tmp_path: Path) -> None:
        if isinstance(engine, FakeEngine):
            engine.load_error = ModelLoadError("it is no GGUF file")
        (tmp_path / "bad.gguf").write_bytes(b"no model")

        with pytest.raises(ModelLoadError):
            engine.load(tmp_path / "bad.gguf", OPTIONS)

        assert engine.model is None
        with pytest.raises(EngineError, match="no model is loaded"):
            engine.tokenize("a")


def test_the_fake_worker_has_the_real_ones_methods(started: Engine) -> None:
    def methods(kind: type[object]) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(method).parameters)
            for name, method in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_")
        }

    assert methods(FakeWorker) == methods(Worker)
