"""The chat screen and what it is given to read: files of all kinds, snapshots, notices, stops."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input

from fake_engine import FakeEngine, noting
from pdf_files import page, pdf
from ropewalk.documents import Document, parse_selection, read_documents
from ropewalk.engine import (
    Cancelled,
    EngineDied,
    EngineOptions,
    GenerationResult,
    SamplingOptions,
    StateRefused,
)
from ropewalk.sessions import ReadingSession, ReadProgress, SnapshotShelf, TooLongError
from ropewalk.tui import ChatApp, Opening
from ropewalk.tui.open_file import PathSuggester
from ropewalk.tui.widgets.notice_line import NoticeLine
from test_tui_chat import answers, ask, idle, label, notice, until

LONG = Document.of_text("story.txt", "Once upon a time there was a ropewalk. " * 60)
OPTIONS = EngineOptions(n_ctx=512)


@pytest.fixture(autouse=True)
def small_texts_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("ropewalk.sessions.reader._WORTH_RESTORING", 16)
    monkeypatch.setattr("ropewalk.sessions.reader._WORTH_KEEPING", 32)
    monkeypatch.setattr("ropewalk.sessions.fingerprint.user_cache_path", lambda _: tmp_path / "cache")


def session_on(engine: FakeEngine, folder: Path | None = None) -> ReadingSession:
    """With snapshots in a folder, or none."""
    shelf = None if folder is None else (lambda told: SnapshotShelf(folder, 10**9, told))
    return ReadingSession(engine, SamplingOptions(), shelf=shelf)


def app_on(
    engine: FakeEngine, model: Path, document: Document | None = LONG, folder: Path | None = None
) -> ChatApp:
    return ChatApp(session_on(engine, folder), Opening(model, OPTIONS, document, 200))


async def open_file(pilot: Any, app: ChatApp, path: Path | str) -> None:  # noqa: ANN401  # of any app
    await pilot.press("ctrl+o")
    await until(pilot, lambda: bool(app.screen.query("#open-file-path")))
    app.screen.query_one("#open-file-path", Input).value = str(path)
    await pilot.press("enter")


async def test_a_document_that_was_read_before_is_said_to_be(tiny_llama: Path, tmp_path: Path) -> None:
    async def opened(words: str) -> str:
        app = app_on(FakeEngine(), tiny_llama, folder=tmp_path / "kept")
        async with app.run_test() as pilot:
            await until(pilot, lambda: idle(app) and notice(app).startswith(words))
            return notice(app)

    await opened("Read ")
    assert "read before" in await opened("Opened ")


async def test_what_cannot_be_kept_is_said_and_stays_said(tiny_llama: Path, tmp_path: Path) -> None:
    engine = FakeEngine(respond=noting([], "ok"), state_error=StateRefused("the disk is full"))
    app = app_on(engine, tiny_llama, folder=tmp_path / "kept")
    async with app.run_test() as pilot:
        await until(pilot, lambda: idle(app) and notice(app).startswith("Read "))
        assert notice(app).endswith("What was read of story.txt is not kept: the disk is full.")
        await ask(pilot, "Well?")
        await until(pilot, lambda: answers(app) == ["ok"] and idle(app))
        assert "disk" not in notice(app), "it was said once"


async def test_what_there_is_to_say_of_a_file_stays_said(tiny_llama: Path, tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_bytes(b"caf\xe9 au lait")
    app = app_on(FakeEngine(), tiny_llama, None)
    async with app.run_test() as pilot:
        await until(pilot, lambda: idle(app))
        await open_file(pilot, app, tmp_path / "old.txt")
        await until(pilot, lambda: idle(app) and notice(app).startswith("Read "))
        assert "Windows-1252" in notice(app)


async def test_a_pdf_and_a_folder_are_opened(tiny_llama: Path, tmp_path: Path) -> None:
    prompts: list[str] = []
    (tmp_path / "book.pdf").write_bytes(pdf([page(["A page about ropes."]), page(["A page about sheds."])]))
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a.py").write_text("print('rope')")
    app = app_on(FakeEngine(respond=noting(prompts, "ok")), tiny_llama, None)
    async with app.run_test() as pilot:
        await until(pilot, lambda: idle(app))
        for name, words in (("book.pdf", "about sheds"), ("tree", "print('rope')")):
            await open_file(pilot, app, tmp_path / name)
            await until(pilot, partial(is_read, app, name))
            await ask(pilot, "Well?")
            await until(pilot, lambda: idle(app) and len(answers(app)) == 1)
            assert words in prompts[-1]


def is_read(app: ChatApp, name: str) -> bool:
    return idle(app) and notice(app).startswith("Read ") and name in label(app, "#document-name")


async def test_several_files_are_one_document(tiny_llama: Path, tmp_path: Path) -> None:
    for name in ("one.txt", "two.txt"):
        (tmp_path / name).write_text(f"The text of {name}.")
    document = read_documents([str(tmp_path / "one.txt"), str(tmp_path / "two.txt")])
    prompts: list[str] = []
    app = app_on(FakeEngine(respond=noting(prompts, "ok")), tiny_llama, document)
    async with app.run_test() as pilot:
        await until(pilot, lambda: idle(app) and notice(app).startswith("Read "))
        await ask(pilot, "Well?")
        await until(pilot, lambda: answers(app) == ["ok"] and idle(app))
    assert "The text of one.txt." in prompts[0] and "The text of two.txt." in prompts[0]


async def test_escape_while_a_file_is_opened_stops_it(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pressed = threading.Event()

    def slow(_: list[str], on_progress: Callable[[int, int], None]) -> Document:
        on_progress(1, 2)
        assert pressed.wait(20)
        on_progress(2, 2)
        return LONG

    monkeypatch.setattr("ropewalk.tui.engine_thread.read_documents", slow)
    engine = FakeEngine()
    app = app_on(engine, tiny_llama, None)
    async with app.run_test() as pilot:
        await until(pilot, lambda: idle(app))
        await open_file(pilot, app, "slow.pdf")
        await until(pilot, lambda: label(app, "#activity-label") == "Opening")
        await pilot.press("escape")
        pressed.set()
        await until(pilot, lambda: idle(app) and notice(app) == "Stopped.")
        assert not app.screen.query_one(NoticeLine).has_class("error")
        assert engine.prefills == []
        await ask(pilot, "Well?")
        await until(pilot, lambda: len(answers(app)) == 1 and idle(app))


async def test_control_characters_reach_no_terminal(tiny_llama: Path) -> None:
    app = app_on(FakeEngine(respond=lambda _: "one \x1b]0;title\x07two"), tiny_llama, None)
    async with app.run_test() as pilot:
        await until(pilot, lambda: idle(app))
        await ask(pilot, "Well?")
        await until(pilot, lambda: answers(app) == ["one ]0;titletwo"] and idle(app))


async def test_a_home_folder_of_nobody_is_no_crash(tiny_llama: Path) -> None:
    assert await PathSuggester().get_suggestion("~nobody-of-this-name/x") is None
    app = app_on(FakeEngine(), tiny_llama, None)
    async with app.run_test() as pilot:
        await until(pilot, lambda: idle(app))
        await open_file(pilot, app, "~nobody-of-this-name/x")
        await until(pilot, lambda: "no such file" in notice(app))


class TestSession:
    def opened(self, engine: FakeEngine, model: Path) -> ReadingSession:
        session = session_on(engine)
        session.load(model, OPTIONS, lambda _: None)
        session.open(LONG)
        return session

    def ask(
        self, session: ReadingSession, on_text: Callable[[str], None] = lambda _: None
    ) -> GenerationResult | None:
        return session.ask("Well?", 100, ReadProgress(), on_text)[1]

    def test_a_stop_between_reading_and_answering_is_not_lost(self, tiny_llama: Path) -> None:
        engine = FakeEngine(respond=lambda _: "ok")
        session = self.opened(engine, tiny_llama)
        last = ReadProgress(tokens=lambda done, total: session.cancel() if done == total else None)
        read, answer = session.ask("Well?", 100, last, lambda _: None)
        assert (read.cancelled, answer) == (True, None)
        assert session.conversation.turns == ()
        assert engine.samplings == []
        session.begin()
        assert self.ask(session) is not None

    def test_a_stop_just_before_the_answer_begins_is_not_lost(
        self, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        engine = FakeEngine(respond=lambda _: "word " * 90, answer_up_to=20)
        session = self.opened(engine, tiny_llama)
        generate = engine.generate

        def late(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # as they come
            session.cancel()
            return generate(*args, **kwargs)

        monkeypatch.setattr(engine, "generate", late)
        answer = self.ask(session)
        assert answer is not None
        assert answer.reason == "cancelled"

    def test_a_stop_before_anything_was_read(self, tiny_llama: Path) -> None:
        engine = FakeEngine()
        session = self.opened(engine, tiny_llama)
        session.cancel()
        with pytest.raises(Cancelled):
            self.ask(session)
        with pytest.raises(Cancelled):
            session.open(Document.of_text("other.txt", "Another text."))
        assert session.document is LONG
        assert engine.prefills == []

    def test_an_engine_that_died_is_told_at_each_call(self, tiny_llama: Path) -> None:
        engine = FakeEngine(respond=lambda _: "ok")
        session = self.opened(engine, tiny_llama)
        engine.prefill_error = EngineDied("was killed by SIGKILL")
        for _ in range(2):
            with pytest.raises(EngineDied, match="SIGKILL"):
                self.ask(session)

    def test_the_part_that_is_named_is_of_the_selection_that_was_asked_for(
        self, tiny_llama: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "book.txt").write_text(("word " * 10 + "\n") * 2000)
        selection = parse_selection("900-950,1100-", "lines")
        document = read_documents([str(tmp_path / "book.txt")], selection=selection)
        session = self.opened(FakeEngine(), tiny_llama)
        with pytest.raises(TooLongError) as raised:
            session.open(document, selection)
        ranges = re.findall(r"--lines (900-950,1100-\d+) for one", str(raised.value))
        fitting = read_documents([str(tmp_path / "book.txt")], selection=parse_selection(ranges[0], "lines"))
        assert 3000 < session.open(fitting) < 4000
