"""The chat screen, driven by keys, on a fake engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Label, Markdown

from fake_engine import DPROPE_LIKE, FakeEngine, noting
from ropewalk.documents import Document
from ropewalk.engine import (
    Cancelled,
    DoesNotFitError,
    EngineDied,
    EngineOptions,
    LibraryNotPatched,
    SamplingOptions,
)
from ropewalk.sessions import ReadingSession
from ropewalk.tui import ChatApp, Opening
from ropewalk.tui.widgets.activity_bar import ActivityBar
from ropewalk.tui.widgets.context_gauge import ContextGauge, gauge_line
from ropewalk.tui.widgets.notice_line import NoticeLine
from ropewalk.tui.widgets.transcript import Exchange

STORY = Document.of_text("story.txt", "Once upon a time there was a ropewalk. " * 20)
SIZES = [(80, 24), (140, 50), (40, 12)]


def make_app(engine: FakeEngine, document: Document | None = STORY, max_tokens: int = 200) -> ChatApp:
    session = ReadingSession(cast(Any, engine), SamplingOptions())
    return ChatApp(session, Opening(Path("tiny.gguf"), EngineOptions(n_ctx=512), document, max_tokens))


async def until(pilot: Pilot[Any], condition: Callable[[], bool]) -> None:
    """Let the application work until something is so."""
    for _ in range(400):
        await pilot.pause(0.01)
        if condition():
            return
    raise AssertionError("it never came to that")


def notice(app: ChatApp) -> str:
    line = app.screen.query_one(NoticeLine)
    return str(line.render()) if line.display else ""


def idle(app: ChatApp) -> bool:
    """Loaded, and nothing going on."""
    return not app.screen.query_one(ActivityBar).display and not app.screen.query_one("#question").disabled


def answers(app: ChatApp) -> list[str]:
    return [markdown.source for markdown in app.screen.query(Markdown)]


def label(app: ChatApp, selector: str) -> str:
    return str(app.screen.query_one(selector, Label).render())


async def ask(pilot: Pilot[Any], question: str) -> None:
    await pilot.click("#question")
    await pilot.press(*question, "enter")


@pytest.mark.parametrize("size", SIZES)
async def test_reads_and_answers(size: tuple[int, int]) -> None:
    engine = FakeEngine(respond=lambda prompt: "A **long** shed.\n\n- for rope")
    app = make_app(engine)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: notice(app).startswith("Read "))
        assert label(app, "#model-name") == "tiny.gguf"
        assert label(app, "#plan-badge") == "dprope 2000 → 4000"
        assert "story.txt" in label(app, "#document-name")
        read = engine.prefills[0].prompt_tokens
        await ask(pilot, "What is it?")
        await until(pilot, lambda: idle(app) and bool(engine.samplings))
        assert answers(app) == ["A **long** shed.\n\n- for rope"]
        gauge = str(app.screen.query_one(ContextGauge).render())
        assert f"{len(engine.held):,} tokens" in gauge and "2,000" in gauge
        again = engine.prefills[1]
        assert again.cached_tokens == read, "the document is not read a second time"
        assert not any("rror" in str(part.render()) for part in app.screen.query(NoticeLine))


async def test_the_second_question_follows_the_first() -> None:
    prompts: list[str] = []
    engine = FakeEngine(respond=noting(prompts, "Answer {}."))
    app = make_app(engine)
    async with app.run_test() as pilot:
        await until(pilot, lambda: idle(app) and bool(engine.prefills))
        for question in ("one", "two"):
            await ask(pilot, question)
            await until(pilot, lambda: idle(app) and len(answers(app)) == len(prompts) > 0)
        await until(pilot, lambda: answers(app) == ["Answer 1.", "Answer 2."])
    assert prompts[1] == (
        f"<|start|><|user|>\n{STORY.text}\n\none<|end|>\n<|assistant|>\nAnswer 1.<|end|>\n"
        "<|user|>\ntwo<|end|>\n<|assistant|>\n"
    )
    assert engine.prefills[2].cached_tokens > engine.prefills[1].prompt_tokens


async def test_the_answer_streams() -> None:
    engine = FakeEngine(respond=lambda prompt: "one two three four five " * 10, answer_up_to=15)
    app = make_app(engine, document=None)
    async with app.run_test() as pilot:
        await until(pilot, lambda: idle(app))
        await ask(pilot, "count")
        await until(
            pilot, lambda: answers(app) == ["one two three four five " * 2 + "one two three four five"]
        )
        engine.go_on.set()
        await until(pilot, lambda: idle(app) and len(answers(app)[0]) == 240)


async def test_escape_stops_reading_and_the_next_question_reads_the_rest() -> None:
    engine = FakeEngine(respond=lambda prompt: "ok", read_up_to=640)
    app = make_app(engine, Document.of_text("long.txt", "word " * 1500))
    async with app.run_test() as pilot:
        await until(pilot, lambda: "tokens" in label(app, "#activity-figures"))
        await pilot.press("escape")
        await until(pilot, lambda: notice(app).startswith("Stopped reading"))
        first = engine.prefills[0]
        assert first.cancelled
        assert len(engine.held) == 640 < first.prompt_tokens
        await ask(pilot, "and?")
        await until(pilot, lambda: answers(app) == ["ok"] and idle(app))
        assert engine.prefills[1].cached_tokens == 640


async def test_escape_stops_the_answer_and_keeps_it() -> None:
    prompts: list[str] = []
    engine = FakeEngine(respond=noting(prompts, "on and on " * 50), answer_up_to=20)
    app = make_app(engine)
    async with app.run_test() as pilot:
        await until(pilot, lambda: idle(app) and bool(engine.prefills))
        await ask(pilot, "go")
        kept = ("on and on " * 7)[:66].strip()
        await until(pilot, lambda: answers(app) == [kept])
        await pilot.press("escape")
        await until(pilot, lambda: idle(app))
        await until(pilot, lambda: "stopped" in str(app.screen.query(".took").last().render()))
        await ask(pilot, "again")
        await until(pilot, lambda: len(prompts) == 2)
        assert f"<|assistant|>\n{kept}<|end|>" in prompts[1]
        await until(pilot, lambda: idle(app))


async def test_escape_before_the_answer_gives_the_question_back() -> None:
    engine = FakeEngine(read_up_to=64)
    app = make_app(engine, document=None)
    async with app.run_test() as pilot:
        await until(pilot, lambda: idle(app))
        app.screen.query_one("#question", Input).value = "why " * 300
        await pilot.press("enter")
        await until(pilot, lambda: "tokens" in label(app, "#activity-figures"))
        await pilot.press("escape")
        await until(pilot, lambda: idle(app))
        assert app.screen.query_one("#question", Input).value.startswith("why why")
        assert list(app.screen.query(Exchange)) == []
        assert notice(app).startswith("Stopped")


async def test_a_question_while_reading_waits_in_the_input() -> None:
    engine = FakeEngine(read_up_to=64)
    app = make_app(engine)
    async with app.run_test() as pilot:
        await until(pilot, lambda: "tokens" in label(app, "#activity-figures"))
        await ask(pilot, "now?")
        assert "Still reading" in notice(app)
        assert app.screen.query_one("#question", Input).value == "now?"
        engine.go_on.set()
        await until(pilot, lambda: idle(app))


async def test_another_file_begins_another_conversation(tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("Something else entirely.")
    prompts: list[str] = []
    engine = FakeEngine(respond=noting(prompts, "ok"))
    app = make_app(engine)
    async with app.run_test() as pilot:
        await until(pilot, lambda: idle(app) and bool(engine.prefills))
        await ask(pilot, "first")
        await until(pilot, lambda: answers(app) == ["ok"] and idle(app))
        await pilot.press("ctrl+o")
        await until(pilot, lambda: bool(app.screen.query("#open-file-path")))
        app.screen.query_one("#open-file-path", Input).value = str(other)
        await pilot.press("enter")
        await until(pilot, lambda: notice(app).startswith("Read ") and answers(app) == [])
        await ask(pilot, "second")
        await until(pilot, lambda: len(prompts) == 2)
        assert prompts[1] == ("<|start|><|user|>\nSomething else entirely.\n\nsecond<|end|>\n<|assistant|>\n")
        await until(pilot, lambda: idle(app))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.txt", None, "no such file"),
        ("image.png", b"\x89PNG\0\0", "binary"),
        ("empty.txt", b"", "empty"),
    ],
)
async def test_files_that_cannot_be_read_are_a_sentence(
    tmp_path: Path, name: str, content: bytes | None, words: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    app = make_app(FakeEngine(), document=None)
    async with app.run_test() as pilot:
        await until(pilot, lambda: idle(app))
        await pilot.press("ctrl+o")
        await until(pilot, lambda: bool(app.screen.query("#open-file-path")))
        app.screen.query_one("#open-file-path", Input).value = str(tmp_path / name)
        await pilot.press("enter")
        await until(pilot, lambda: words in notice(app))
        assert app.screen.query_one(NoticeLine).has_class("error")
        assert idle(app)


async def test_a_document_beyond_the_target_length_is_a_sentence_with_remedies() -> None:
    engine = FakeEngine()
    app = make_app(engine, Document.of_text("long.txt", "word " * 6000))
    async with app.run_test() as pilot:
        await until(pilot, lambda: "4,000" in notice(app))
        assert "--target-length" in notice(app) and "--beyond" in notice(app)
        assert engine.prefills == []


@pytest.mark.parametrize(
    "error",
    [
        EngineDied("was killed by SIGKILL"),
        DoesNotFitError("it does not fit", needed=2, free=1, largest_n_ctx=1),
    ],
)
async def test_a_failing_engine_is_a_sentence_and_the_question_comes_back(error: Exception) -> None:
    engine = FakeEngine()
    app = make_app(engine, document=None)
    async with app.run_test() as pilot:
        await until(pilot, lambda: idle(app))
        engine.prefill_error = error
        await ask(pilot, "well?")
        await until(pilot, lambda: str(error) in notice(app))
        assert app.screen.query_one("#question", Input).value == "well?"


@pytest.mark.parametrize("error", [LibraryNotPatched("needs the patched one"), ZeroDivisionError("oops")])
async def test_a_model_that_cannot_be_loaded_ends_the_application_with_the_error(error: Exception) -> None:
    app = make_app(FakeEngine(load_error=error))
    async with app.run_test() as pilot:
        await until(pilot, lambda: not app.is_running)
    assert (type(app.return_value), str(app.return_value)) == (type(error), str(error))


async def test_leaving_while_loading_is_no_error() -> None:
    app = make_app(FakeEngine(load_error=Cancelled("loading was stopped")))
    async with app.run_test() as pilot:
        await pilot.press("ctrl+q")
        await until(pilot, lambda: not app.is_running)
    assert app.return_value is None


async def test_leaving_while_reading_stops_the_engine() -> None:
    engine = FakeEngine(read_up_to=64)
    app = make_app(engine, Document.of_text("long.txt", "word " * 3000))
    async with app.run_test() as pilot:
        await until(pilot, lambda: "tokens" in label(app, "#activity-figures"))
        await pilot.press("ctrl+q")
        await until(pilot, lambda: not app.is_running)
    for _ in range(100):
        if engine.prefills:
            break
        await asyncio.sleep(0.01)
    assert engine.prefills[0].cancelled


def shown(app: ChatApp) -> str:
    """The screen's text as it stands; a part that is being laid out again may be missing for a moment."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip) for strip in strips)


async def test_the_keyboard_help_is_there() -> None:
    app = make_app(FakeEngine(), document=None)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: idle(app))
        help_and_facts = (
            "Stop",
            "Open file",
            "Quit",
            "tiny.gguf",
            "Ctrl+O opens a file",
            "L 2,000 · L′ 4,000",
        )
        await until(pilot, lambda: all(words in shown(app) for words in help_and_facts))


@pytest.mark.parametrize(
    ("used", "filled", "line"),
    [
        (0, 0, "─────┃───┃ 0 tokens · L 50 · L′ 100"),
        (1, 1, "━────┃───┃ 1 tokens · L 50 · L′ 100"),
        (100, 8, "━━━━━┃━━━┃ 100 tokens · L 50 · L′ 100"),
        (200, 8, "━━┃━━┃━━━━ 200 tokens · L 50 · L′ 100"),
    ],
)
def test_the_gauge(used: int, filled: int, line: str) -> None:
    width = len(line)
    drawn = gauge_line(used, 50, 100, width)
    assert drawn.plain == line
    assert len(drawn.plain) == width
    assert drawn.plain.count("━") == filled


def test_the_gauge_of_a_plain_model_has_one_mark() -> None:
    drawn = gauge_line(10, 100, 100, 40).plain
    assert drawn.count("┃") == 1
    assert "L′" not in drawn
    assert DPROPE_LIKE.target_length == 4000
