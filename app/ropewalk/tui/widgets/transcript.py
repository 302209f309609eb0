"""What was asked and answered."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Markdown, Static
from textual.widgets.markdown import MarkdownStream

_WELCOME = """\
Ctrl+O opens a file, and the model reads it. Then ask about it, as often as you like:
what was read once is not read again. Esc stops reading or answering and keeps what is done.

The line below shows how full the context is. L is the length the model was trained on,
L′ the length its plan extends it to."""


class Exchange(Vertical):
    """A question and its answer, which grows while it comes."""

    def __init__(self, question: str) -> None:
        """An exchange without an answer yet."""
        super().__init__()
        self.question = question
        self._stream: MarkdownStream | None = None

    def compose(self) -> ComposeResult:
        """Question, answer, and a line for what it took."""
        yield Static(self.question, classes="question", markup=False)
        yield Markdown("", classes="answer", open_links=False)
        yield Static("", classes="took", markup=False)

    async def add(self, text: str) -> None:
        """Append a piece of the answer."""
        if self._stream is None:
            self._stream = Markdown.get_stream(self.query_one(Markdown))
        await self._stream.write(text)

    async def finish(self, took: str) -> None:
        """End the answer and say what it took."""
        if self._stream is not None:
            await self._stream.stop()
            self._stream = None
        self.query_one(".took", Static).update(took)


class Transcript(VerticalScroll):
    """All exchanges, the last one in view."""

    can_focus = True

    def compose(self) -> ComposeResult:
        """What to do, until something is asked."""
        yield Static(_WELCOME, id="welcome", markup=False)

    async def ask(self, question: str) -> Exchange:
        """Add a question and return its exchange."""
        await self.query("#welcome").remove()
        exchange = Exchange(question)
        await self.mount(exchange)
        self.anchor()
        return exchange

    async def clear(self) -> None:
        """Take all exchanges away."""
        await self.query(Exchange).remove()
