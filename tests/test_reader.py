"""Reading at the least cost: whatever is held, on disk or damaged, answers are those of a fresh engine."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from fake_engine import FakeEngine
from ropewalk.engine import (
    DoesNotFitError,
    Engine,
    EngineDied,
    EngineOptions,
    ModelDescription,
    StateRefused,
)
from ropewalk.sessions import Reader, ReadProgress, ReadResult, SnapshotShelf
from ropewalk.sessions.snapshot_entry import STATE
from ropewalk.sessions.snapshot_shelf import BOUNDARY_TOKENS
from ropewalk_plan import ContextPlan, ScheduleStep
from tiny_models import write_tiny_model

NUMBERS = np.random.default_rng(6)
DOCUMENT, OTHER = ([int(token) for token in NUMBERS.integers(3, 360, 150)] for _ in range(2))
QUESTIONS = [[int(token) for token in NUMBERS.integers(3, 360, n)] for n in (30, 20, 45)]
HEAD = len(DOCUMENT) - BOUNDARY_TOKENS
ROOM = 12
ALL = len(DOCUMENT) + max(map(len, QUESTIONS)) + ROOM
SILENT = ReadProgress()


def factors(step: float) -> tuple[float, ...]:
    return tuple(np.linspace(1.0, step, 16).tolist())


PLANS = {
    "none": None,
    "dprope": ContextPlan("test", 64, 512, schedule=(ScheduleStep(512, factors(8)),)),
    "dynamic": ContextPlan(
        "test", 64, 512, schedule=tuple(ScheduleStep(n, factors(n / 64)) for n in (64, 200, 512))
    ),
    "windows": ContextPlan("test", 64, 512, windows=(32, 0), sinks=4),
    "streaming": ContextPlan(
        "test",
        64,
        512,
        schedule=(ScheduleStep(512, factors(2)),),
        windows=(64, 64),
        sinks=4,
        streaming=True,
    ),
}
every_plan = pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)


@pytest.fixture(autouse=True)
def small_texts_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("ropewalk.sessions.reader._WORTH_RESTORING", 16)
    monkeypatch.setattr("ropewalk.sessions.reader._WORTH_KEEPING", 32)
    monkeypatch.setattr("ropewalk.sessions.reader._SPARE_TOKENS", 0)
    monkeypatch.setattr("ropewalk.sessions.fingerprint.user_cache_path", lambda _: tmp_path / "cache")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(
        tmp_path_factory.mktemp("models") / "tiny.gguf", head_dim=32, train_length=512
    ).path


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine.start() as engine:
        yield engine


def options(plan: ContextPlan | None, n_ctx: int = 512, kv_type: str = "f16") -> EngineOptions:
    return EngineOptions(
        n_ctx=n_ctx, threads=1, batch_size=64, ubatch_size=64, plan=plan, gpu_layers=0, kv_type=kv_type
    )


class Desk:
    """An engine with a freshly loaded model, a reader, a shelf, and what was told."""

    def __init__(self, engine: Engine, model: Path, under: EngineOptions, folder: Path | None) -> None:
        self.engine, self.model, self.under = engine, model, under
        self.told: list[str] = []
        self.shelf = None if folder is None else SnapshotShelf(folder, 10**9, self.told.append)
        self.reader = Reader.load(engine, model, under, lambda _share: None, self.shelf)

    def ask(
        self, question: list[int], document: list[int] = DOCUMENT, *, room: int = ROOM, reserve: int = 0
    ) -> tuple[tuple[int, ...], ReadResult]:
        read = self.reader.read(
            [*document, *question],
            room,
            SILENT,
            document_tokens=len(document),
            title="a text",
            reserve=reserve,
        )
        assert not read.cancelled
        return self.answer(), read

    def answer(self) -> tuple[int, ...]:
        stream = self.engine.generate(ROOM, stop_at_eog=False)
        assert list(stream)
        return stream.result.token_ids


def fresh(
    engine: Engine, model: Path, under: EngineOptions, tokens: list[int], reserve: int = 0
) -> tuple[int, ...]:
    """The answer of an engine that has read nothing else."""
    engine.load(model, under)
    engine.prefill(tokens, reserve=max(reserve, len(tokens) + ROOM))
    stream = engine.generate(ROOM, stop_at_eog=False)
    assert list(stream)
    return stream.result.token_ids


@pytest.mark.usefixtures("patched_library")
class TestAnswers:
    @every_plan
    @pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
    def test_are_those_of_a_fresh_engine(
        self, engine: Engine, model: Path, tmp_path: Path, plan: ContextPlan | None, kv_type: str
    ) -> None:
        """The first question, the ones after it, and one of them in another run."""
        under = options(plan, kv_type=kv_type)
        expected = [fresh(engine, model, under, [*DOCUMENT, *question], ALL) for question in QUESTIONS]
        first = Desk(engine, model, under, tmp_path / "kept")
        reads = []
        for question, answer in zip(QUESTIONS, expected, strict=True):
            answered, read = first.ask(question, reserve=ALL)
            assert answered == answer
            reads.append(read)
        assert (reads[0].cached_tokens, reads[0].restored_tokens) == (0, 0)
        assert all(read.cached_tokens >= HEAD for read in reads[1:])
        second = Desk(engine, model, under, tmp_path / "kept")
        answered, read = second.ask(QUESTIONS[1], reserve=ALL)
        assert answered == expected[1]
        assert (read.cached_tokens, read.restored_tokens) == (HEAD, HEAD)
        assert first.told == second.told == []

    def test_of_another_process_too(self, engine: Engine, model: Path, tmp_path: Path) -> None:
        expected, _ = Desk(engine, model, options(None), tmp_path / "kept").ask(QUESTIONS[0])
        with Engine.start() as other:
            assert Desk(other, model, options(None), tmp_path / "kept").ask(QUESTIONS[0])[0] == expected

    @every_plan
    def test_without_a_shelf(self, engine: Engine, model: Path, plan: ContextPlan | None) -> None:
        under = options(plan)
        expected = [fresh(engine, model, under, [*DOCUMENT, *question]) for question in QUESTIONS]
        desk = Desk(engine, model, under, None)
        assert [desk.ask(question)[0] for question in QUESTIONS[:2]] == expected[:2]

    def test_after_a_longer_text_under_a_schedule(self, engine: Engine, model: Path, tmp_path: Path) -> None:
        """What begins a longer text was read with the factors for that one."""
        under = options(PLANS["dynamic"])
        expected = fresh(engine, model, under, [*DOCUMENT, *QUESTIONS[0]])
        desk = Desk(engine, model, under, tmp_path / "kept")
        desk.ask(QUESTIONS[0], [*DOCUMENT, *OTHER])
        answered, read = desk.ask(QUESTIONS[0])
        assert answered == expected
        assert read.cached_tokens == 0
        desk = Desk(engine, model, under, tmp_path / "kept")
        answered, read = desk.ask(QUESTIONS[0])
        assert (answered, read.restored_tokens) == (expected, HEAD)

    def test_a_conversation_that_outgrows_its_factors_makes_no_snapshot_of_what_was_turned(
        self, engine: Engine, model: Path, tmp_path: Path
    ) -> None:
        under = options(PLANS["dynamic"])
        whole = [*DOCUMENT, *OTHER]
        expected = fresh(engine, model, under, [*whole, *QUESTIONS[0]])
        desk = Desk(engine, model, under, tmp_path / "kept")
        desk.reader.read(DOCUMENT, 1, SILENT)  # no snapshot: nothing says that this is a document
        _, read = desk.ask(QUESTIONS[0], whole)
        assert read.cached_tokens == len(DOCUMENT), "what is held is gone on from"
        assert SnapshotShelf(tmp_path / "kept").list() == ()
        desk = Desk(engine, model, under, tmp_path / "kept")
        assert desk.ask(QUESTIONS[0], whole)[0] == expected

    def test_a_reservation_for_other_questions_decides_the_factors(
        self, engine: Engine, model: Path, tmp_path: Path
    ) -> None:
        under = options(PLANS["dynamic"])
        short = QUESTIONS[1]
        expected = fresh(engine, model, under, [*DOCUMENT, *short], ALL)
        assert expected != fresh(engine, model, under, [*DOCUMENT, *short])
        desk = Desk(engine, model, under, tmp_path / "kept")
        desk.ask(QUESTIONS[2], reserve=ALL)
        answered, read = desk.ask(short, reserve=ALL)
        assert (answered, read.cached_tokens) == (expected, len(DOCUMENT))

    @every_plan
    def test_a_document_that_grew_goes_on_from_the_snapshot(
        self, engine: Engine, model: Path, tmp_path: Path, plan: ContextPlan | None
    ) -> None:
        under = options(plan)
        grown = [*DOCUMENT, *OTHER[:40]]
        expected = fresh(engine, model, under, [*grown, *QUESTIONS[0]], 300)
        Desk(engine, model, under, tmp_path / "kept").ask(QUESTIONS[0], reserve=300)
        desk = Desk(engine, model, under, tmp_path / "kept")
        answered, read = desk.ask(QUESTIONS[0], grown, reserve=300)
        assert (answered, read.restored_tokens) == (expected, HEAD)
        assert [kept.n_tokens for kept in SnapshotShelf(tmp_path / "kept").list()] == [HEAD + 40]

    def test_a_resize_that_loses_what_was_held_restores_it(
        self, engine: Engine, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As where there is no memory for a copy beside the new context."""
        under = options(None, n_ctx=256)
        longer = QUESTIONS[0] * 5
        expected = fresh(engine, model, options(None), [*DOCUMENT, *longer])
        desk = Desk(engine, model, under, tmp_path / "kept")
        desk.ask(QUESTIONS[0])
        resize = engine.resize

        def losing(n_ctx: int) -> ModelDescription:
            engine.drop_sequence(0)
            return resize(n_ctx)

        monkeypatch.setattr(engine, "resize", losing)
        answered, read = desk.ask(longer)
        assert (answered, read.restored_tokens) == (expected, HEAD)


@pytest.mark.usefixtures("patched_library")
class TestSnapshots:
    def test_are_made_a_few_tokens_before_the_documents_end(
        self, engine: Engine, model: Path, tmp_path: Path
    ) -> None:
        desk = Desk(engine, model, options(None), tmp_path / "kept")
        desk.ask(QUESTIONS[0])
        desk.ask(QUESTIONS[1])
        (kept,) = SnapshotShelf(tmp_path / "kept").list()
        assert (kept.n_tokens, kept.title) == (HEAD, "a text")

    def test_are_made_where_reading_was_stopped_and_went_on(
        self, engine: Engine, model: Path, tmp_path: Path
    ) -> None:
        """However little was left to read then."""
        desk = Desk(engine, model, options(None), tmp_path / "kept")
        engine.prefill(DOCUMENT[: HEAD - 5])
        desk.ask(QUESTIONS[0])
        assert [kept.n_tokens for kept in SnapshotShelf(tmp_path / "kept").list()] == [HEAD]

    @pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
    def test_damaged_ones_are_noticed_and_the_text_is_read_again(
        self, engine: Engine, model: Path, tmp_path: Path, damage: str
    ) -> None:
        expected, _ = Desk(engine, model, options(None), tmp_path / "kept").ask(QUESTIONS[0])
        (state,) = (tmp_path / "kept").glob(f"*/{STATE}")
        content = bytearray(state.read_bytes())
        content[len(content) // 2] ^= 1
        if damage == "gone":
            state.unlink()
        else:
            state.write_bytes(content if damage == "flipped" else content[:-9])
        desk = Desk(engine, model, options(None), tmp_path / "kept")
        answered, read = desk.ask(QUESTIONS[0])
        assert (answered, read.cached_tokens, read.restored_tokens) == (expected, 0, 0)
        (sentence,) = desk.told
        assert sentence.endswith("its text is read again.")
        assert [kept.n_tokens for kept in SnapshotShelf(tmp_path / "kept").list()] == [HEAD], "made anew"

    def test_of_a_model_that_was_replaced_are_not_its_own(
        self, engine: Engine, model: Path, tmp_path: Path
    ) -> None:
        """Another file under the loaded model's name, as an update of it leaves."""
        path = tmp_path / "model.gguf"
        shutil.copy(model, path)
        desk = Desk(engine, path, options(None), tmp_path / "kept")
        path.unlink()
        write_tiny_model(path, head_dim=32, train_length=512, seed=5)
        desk.ask(QUESTIONS[0])
        expected = fresh(engine, path, options(None), [*DOCUMENT, *QUESTIONS[0]])
        answered, read = Desk(engine, path, options(None), tmp_path / "kept").ask(QUESTIONS[0])
        assert (answered, read.restored_tokens) == (expected, 0)

    def test_none_of_a_model_that_is_replaced_while_it_is_loaded(
        self, engine: Engine, model: Path, tmp_path: Path
    ) -> None:
        path, other = tmp_path / "model.gguf", tmp_path / "other.gguf"
        shutil.copy(model, path)
        write_tiny_model(other, head_dim=32, train_length=512, seed=5)

        def replace(_share: float) -> None:
            shutil.copy(other, tmp_path / "copy.gguf")
            (tmp_path / "copy.gguf").replace(path)

        shelf = SnapshotShelf(tmp_path / "kept", 10**9)
        reader = Reader.load(engine, path, options(None), replace, shelf)
        reader.read([*DOCUMENT, *QUESTIONS[0]], ROOM, SILENT, document_tokens=len(DOCUMENT))
        assert shelf.list() == ()

    def test_none_without_a_model_file(self, model: Path, tmp_path: Path) -> None:
        fake = FakeEngine()
        desk = Desk(fake, tmp_path / "gone.gguf", EngineOptions(n_ctx=512), tmp_path / "kept")
        fake.respond = lambda _: "yes"
        tokens = fake.tokenize("word " * 100)
        assert desk.reader.read(tokens, 5, SILENT, document_tokens=90).cached_tokens == 0
        assert SnapshotShelf(tmp_path / "kept").list() == ()


STAGES: dict[str, Callable[[ReadProgress, Callable[..., None]], ReadProgress]] = {
    stage: lambda progress, tell, stage=stage: dataclasses.replace(progress, **{stage: tell})  # type: ignore[misc]
    for stage in ("tokens", "restoring", "keeping")
}


@pytest.mark.usefixtures("patched_library")
class TestCancelling:
    @pytest.mark.parametrize("plan", ["none", "windows", "dynamic"])
    @pytest.mark.parametrize("stage", STAGES)
    def test_at_every_stage_ends_reading_and_harms_nothing(
        self, engine: Engine, model: Path, tmp_path: Path, stage: str, plan: str
    ) -> None:
        under = options(PLANS[plan])
        expected = fresh(engine, model, under, [*DOCUMENT, *QUESTIONS[0]])
        if stage == "restoring":
            Desk(engine, model, under, tmp_path / "kept").ask(QUESTIONS[0])
        desk = Desk(engine, model, under, tmp_path / "kept")
        reached: list[bool] = []

        def stop(*_: float) -> None:
            reached.append(True)
            desk.reader.cancel()

        progress = STAGES[stage](SILENT, stop)
        tokens = [*DOCUMENT, *QUESTIONS[0]]
        read = desk.reader.read(tokens, ROOM, progress, document_tokens=len(DOCUMENT), title="a text")
        assert reached
        assert read.cancelled
        assert desk.reader.cancelled
        desk.reader.begin()
        assert desk.ask(QUESTIONS[0])[0] == expected
        assert desk.told == []
        assert [p for p in (tmp_path / "kept").iterdir() if p.name.startswith(".")] == []

    def test_between_requests_is_not_lost(self, engine: Engine, model: Path, tmp_path: Path) -> None:
        desk = Desk(engine, model, options(None), tmp_path / "kept")
        desk.reader.cancel()
        read = desk.reader.read([*DOCUMENT, *QUESTIONS[0]], ROOM, SILENT, document_tokens=len(DOCUMENT))
        assert read.cancelled
        assert engine.reusable(DOCUMENT) == 0
        desk.reader.begin()
        desk.ask(QUESTIONS[0])

    def test_just_before_a_request_is_not_lost(
        self, engine: Engine, model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After the last look at it, and before the engine has anything to cancel."""
        desk = Desk(engine, model, options(None), None)
        prefill = engine.prefill

        def late(*args: object, **kwargs: object) -> object:
            desk.reader.cancel()
            return prefill(*args, **kwargs)  # type: ignore[arg-type]  # as they came

        monkeypatch.setattr(engine, "prefill", late)
        assert desk.reader.read(DOCUMENT * 3, ROOM, SILENT).cancelled
        assert engine.reusable(DOCUMENT * 3) < 3 * len(DOCUMENT) - 1

    def test_ctrl_c_while_a_snapshot_is_made_leaves_nothing_half(
        self, engine: Engine, model: Path, tmp_path: Path
    ) -> None:
        desk = Desk(engine, model, options(None), tmp_path / "kept")

        def press(_share: float) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            desk.reader.read(
                [*DOCUMENT, *QUESTIONS[0]], ROOM, ReadProgress(keeping=press), document_tokens=len(DOCUMENT)
            )
        assert list((tmp_path / "kept").iterdir()) == []
        assert desk.ask(QUESTIONS[0])[1].cached_tokens >= HEAD - 1

    def test_while_a_snapshot_is_made_costs_no_second_reading_under_windows(
        self, engine: Engine, model: Path, tmp_path: Path
    ) -> None:
        desk = Desk(engine, model, options(PLANS["windows"]), tmp_path / "kept")
        progress = ReadProgress(keeping=lambda _: desk.reader.cancel())
        tokens = [*DOCUMENT, *QUESTIONS[0]]
        assert desk.reader.read(tokens, ROOM, progress, document_tokens=len(DOCUMENT)).cancelled
        desk.reader.begin()
        assert desk.ask(QUESTIONS[0])[1].cached_tokens == HEAD
        assert [kept.n_tokens for kept in SnapshotShelf(tmp_path / "kept").list()] == [HEAD]


@pytest.mark.usefixtures("patched_library")
class TestDeath:
    @pytest.mark.parametrize("stage", STAGES)
    def test_reaches_the_caller_and_the_next_engine_works(
        self, engine: Engine, model: Path, tmp_path: Path, stage: str
    ) -> None:
        under = options(None)
        expected = fresh(engine, model, under, [*DOCUMENT, *QUESTIONS[0]])
        if stage == "restoring":
            Desk(engine, model, under, tmp_path / "kept").ask(QUESTIONS[0])
        with Engine.start() as doomed:
            desk = Desk(doomed, model, under, tmp_path / "kept")
            progress = STAGES[stage](SILENT, lambda *_: os.kill(doomed.pid, signal.SIGKILL))
            with pytest.raises(EngineDied, match="SIGKILL"):
                desk.reader.read(
                    [*DOCUMENT, *QUESTIONS[0]], ROOM, progress, document_tokens=len(DOCUMENT), title="a text"
                )
                desk.answer()  # where the last word of the state's file was said already
            with pytest.raises(EngineDied):
                desk.ask(QUESTIONS[0])
        desk = Desk(engine, model, under, tmp_path / "kept")
        assert desk.ask(QUESTIONS[0])[0] == expected
        assert desk.told == []


class TestOnAFakeEngine:
    def test_factors_are_reserved_for_prompt_and_answer(self, tmp_path: Path) -> None:
        fake = FakeEngine()
        desk = Desk(fake, tmp_path / "fake.gguf", EngineOptions(n_ctx=512), None)
        tokens = fake.tokenize("word " * 100)
        desk.reader.read(tokens, 50, SILENT)
        desk.reader.read(tokens, 50, SILENT, reserve=700)
        assert fake.reserves == [len(tokens) + 50, 700]

    def test_the_context_is_made_as_long_as_is_needed_where_there_is_no_memory_to_spare(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("ropewalk.sessions.reader._SPARE_TOKENS", 2048)
        fake = FakeEngine()
        desk = Desk(fake, tmp_path / "fake.gguf", EngineOptions(n_ctx=512), None)
        resize, asked = fake.resize, []

        def scarce(n_ctx: int) -> ModelDescription:
            asked.append(n_ctx)
            if n_ctx > 1200:
                raise DoesNotFitError("too long", needed=2, free=1, largest_n_ctx=1200)
            return resize(n_ctx)

        monkeypatch.setattr(fake, "resize", scarce)
        assert not desk.reader.read(fake.tokenize("word " * 900), 50, SILENT).cancelled
        assert asked == [3072, 1024]
        with pytest.raises(DoesNotFitError):
            desk.reader.read(fake.tokenize("word " * 1300), 50, SILENT)

    def test_a_state_that_cannot_be_kept_is_told_and_the_prompt_is_read(
        self, model: Path, tmp_path: Path
    ) -> None:
        fake = FakeEngine(state_error=StateRefused("the disk is full"))
        desk = Desk(fake, model, EngineOptions(n_ctx=512), tmp_path / "kept")
        tokens = fake.tokenize("word " * 200)
        read = desk.reader.read(tokens, 5, SILENT, document_tokens=190, title="a text")
        assert (read.cancelled, len(fake.held)) == (False, len(tokens))
        assert desk.told == ["What was read of a text is not kept: the disk is full."]

    def test_cancelling_from_another_thread(self, tmp_path: Path) -> None:
        fake = FakeEngine(read_up_to=64)
        desk = Desk(fake, tmp_path / "fake.gguf", EngineOptions(n_ctx=512), None)
        tokens = fake.tokenize("word " * 300)
        standing = threading.Event()
        progress = ReadProgress(tokens=lambda done, _: standing.set() if done >= 64 else None)

        def cancel() -> None:
            standing.wait(20)
            desk.reader.cancel()

        thread = threading.Thread(target=cancel)
        thread.start()
        assert desk.reader.read(tokens, 5, progress).cancelled
        thread.join()
        assert len(fake.held) == 64
