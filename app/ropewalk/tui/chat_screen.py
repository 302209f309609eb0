"""The screen on which a document is read and questioned."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Footer, Input

from ropewalk.engine import Cancelled
from ropewalk.sessions import ReadingSession
from ropewalk.tui import messages
from ropewalk.tui.engine_thread import EngineThread
from ropewalk.tui.open_file import OpenFileScreen
from ropewalk.tui.opening import Opening
from ropewalk.tui.widgets.activity_bar import ActivityBar
from ropewalk.tui.widgets.context_gauge import ContextGauge
from ropewalk.tui.widgets.model_header import ModelHeader
from ropewalk.tui.widgets.notice_line import NoticeLine
from ropewalk.tui.widgets.transcript import Exchange, Transcript
from ropewalk.wording.errors import sentence
from ropewalk.wording.quantities import clock, count, rate
from ropewalk.wording.terminal import without_control


class Activity(Enum):
    """What the engine is at; the value is how a sentence names it."""

    IDLE = ""
    LOADING = "loading the model"
    READING = "reading"
    ANSWERING = "answering"


class ChatScreen(Screen[None]):
    """Header, transcript, notice, progress, context gauge, input, keys."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop"),
        Binding("ctrl+o", "open_file", "Open file"),
        Binding("ctrl+q", "app.quit", "Quit"),
    ]

    def __init__(self, session: ReadingSession, opening: Opening) -> None:
        """The screen over a session whose model it loads."""
        super().__init__()
        self._session = session
        self._opening = opening
        self._thread = EngineThread(session, self)
        self._activity = Activity.LOADING
        self._reading = ""
        self._notices: list[str] = []
        self._exchange: Exchange | None = None

    def compose(self) -> ComposeResult:
        """All parts, from top to bottom."""
        yield ModelHeader(self._opening.model.name)
        yield Transcript()
        yield NoticeLine()
        yield ActivityBar()
        yield ContextGauge()
        yield Input(placeholder="Loading the model …", disabled=True, id="question")
        yield Footer()

    # Loading

    def on_mount(self) -> None:
        """Load the model."""
        self._begin(Activity.LOADING, "Loading", lambda: self._thread.load(self._opening))

    def on_loading(self, message: messages.Loading) -> None:
        """Show how much of the model is loaded."""
        self.query_one(ActivityBar).share(message.share)

    async def on_loaded(self, message: messages.Loaded) -> None:
        """Show what the model is, and read the document the application was opened with."""
        self.query_one(ModelHeader).show_model(message.model)
        self.query_one(ContextGauge).show_lengths(message.model.train_length, message.model.target_length)
        self._end()
        question = self.query_one("#question", Input)
        question.disabled = False
        question.focus()
        document = self._opening.document
        if document is None:
            question.placeholder = "Ask anything; Ctrl+O opens a file"
        else:
            self._read(document.name, lambda: self._thread.read(document, self._opening.selection))

    def on_load_failed(self, message: messages.LoadFailed) -> None:
        """Leave: without a model there is nothing to do here."""
        if not isinstance(message.error, Cancelled):  # by leaving
            self.app.exit(message.error)

    # Reading

    def action_open_file(self) -> None:
        """Ask for a file and read it."""
        if self._is_free():
            self.app.push_screen(OpenFileScreen(), self._open)

    def _open(self, path: Path | None) -> None:
        if path is not None:
            self._read(path.name, lambda: self._thread.open_file(path))

    def _read(self, name: str, work: Callable[[], None]) -> None:
        self._begin(Activity.READING, f"Reading {without_control(Path(name).name)}", work)

    async def on_opened(self, message: messages.Opened) -> None:
        """A document is open: what was said before is about another one."""
        await self.query_one(Transcript).clear()
        name = Path(message.document.name).name
        self.query_one(ModelHeader).show_document(
            f"{without_control(name)}, {count(message.tokens, 'token')}"
        )
        self.query_one("#question", Input).placeholder = f"Ask about {name}"
        for notice in message.document.notices:
            self._notice(notice)

    def on_opening(self, message: messages.Opening) -> None:
        """Show how much of the file is read from the disk."""
        self.query_one(ActivityBar).share(message.share, "Opening")

    def on_reading(self, message: messages.Reading) -> None:
        """Show how much is read."""
        self.query_one(ActivityBar).tokens(message.done, message.total, self._reading)
        self.query_one(ContextGauge).show_used(message.done)

    def on_reading_ended(self, message: messages.ReadingEnded) -> None:
        """Say what reading took, or how to go on."""
        self._end()
        result = message.result
        if result.cancelled:
            self._say("Stopped reading; what is read is kept, and your next question reads the rest.")
        else:
            took = clock(result.seconds)
            if result.restored_tokens:
                self._say(f"Opened {count(result.prompt_tokens, 'token')}, read before, in {took}. Ask away.")
            else:
                speed = rate(result.computed_tokens, result.seconds)
                self._say(f"Read {count(result.prompt_tokens, 'token')} in {took} ({speed}). Ask away.")

    # Answering

    async def on_input_submitted(self, event: Input.Submitted) -> None:
        """Ask the question."""
        question = event.value.strip()
        if not question or not self._is_free():
            return
        event.input.clear()
        self._exchange = await self.query_one(Transcript).ask(question)
        self._begin(
            Activity.ANSWERING, "Reading", lambda: self._thread.ask(question, self._opening.max_tokens)
        )

    def on_restoring(self, message: messages.Restoring) -> None:
        """Show how much of what was read another time is back."""
        self.query_one(ActivityBar).share(message.share, "Opening what was read before")

    def on_keeping(self, message: messages.Keeping) -> None:
        """Show how much of what was read is on disk."""
        self.query_one(ActivityBar).share(message.share, "Keeping what was read")

    def on_noticed(self, message: messages.Noticed) -> None:
        """Say what there is to say."""
        self._notice(message.sentence)

    async def on_answer_text(self, message: messages.AnswerText) -> None:
        """Show a piece of the answer."""
        self.query_one(ActivityBar).end()
        if self._exchange is not None:
            await self._exchange.add(without_control(message.text))

    async def on_answer_ended(self, message: messages.AnswerEnded) -> None:
        """Say what the answer took; give the question back where there is none."""
        self._end()
        answer = message.answer
        if answer is None:
            await self._take_question_back()
            self._say("Stopped; what is read is kept, and asking again goes on from there.")
            return
        if self._notices:
            self._say("")
        self.query_one(ContextGauge).show_used(message.read.prompt_tokens + answer.tokens)
        how = {"cancelled": " · stopped", "length": " · cut at the longest answer"}.get(answer.reason, "")
        if self._exchange is not None:
            await self._exchange.finish(
                f"{count(message.read.computed_tokens, 'new token')} read in {clock(message.read.seconds)} · "
                f"{count(answer.tokens, 'token')} at {rate(answer.tokens, answer.seconds)}{how}"
            )

    async def _take_question_back(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            question = self.query_one("#question", Input)
            question.value = question.value or exchange.question
            await exchange.remove()

    # All of them

    async def on_failed(self, message: messages.Failed) -> None:
        """Say what went wrong, in one sentence."""
        was_answering = self._activity is Activity.ANSWERING
        self._end()
        if was_answering:
            await self._take_question_back()
        if isinstance(message.error, Cancelled):
            self._say("Stopped.")
        else:
            self._say(sentence(message.error), error=True)

    def action_stop(self) -> None:
        """Stop reading or answering."""
        if self._activity in (Activity.READING, Activity.ANSWERING):
            self._say("Stopping …")
            self._session.cancel()
        else:
            self.query_one(NoticeLine).clear()

    def _begin(self, activity: Activity, label: str, work: Callable[[], None]) -> None:
        self._activity, self._reading = activity, label
        self._notices.clear()
        self._session.begin()
        self.query_one(NoticeLine).clear()
        self.query_one(ActivityBar).begin(label)
        self.run_worker(work, thread=True, group="engine", name=activity.value)

    def _end(self) -> None:
        self._activity = Activity.IDLE
        self.query_one(ActivityBar).end()
        self.query_one(NoticeLine).clear()

    def _is_free(self) -> bool:
        if self._activity is not Activity.IDLE:
            self._say(f"Still {self._activity.value}; Esc stops it.")
        return self._activity is Activity.IDLE

    def _notice(self, sentence: str) -> None:
        """Say something that stays said when the work is done, until something else begins."""
        self._notices.append(sentence)
        self._say("")

    def _say(self, text: str, *, error: bool = False) -> None:
        """Say what is to be said now, and what there was to notice on the way."""
        line = " ".join(filter(None, (text, *self._notices)))
        self.query_one(NoticeLine).say(without_control(line), error=error)
