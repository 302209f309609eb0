"""The session's blocking calls, made in threads, their news posted to a screen."""

from __future__ import annotations

from pathlib import Path

from textual.message import Message
from textual.message_pump import MessagePump

from ropewalk.documents import Document, Selection, read_documents
from ropewalk.engine import Cancelled
from ropewalk.sessions import ReadingSession, ReadProgress
from ropewalk.tui import messages
from ropewalk.tui.opening import Opening


class EngineThread:
    """What the threads run: each method blocks until its work is done, and posts how it goes.

    A screen runs one at a time. Posting is safe from any thread. Errors are posted too, all of them:
    the screen says what they are.
    """

    def __init__(self, session: ReadingSession, screen: MessagePump) -> None:
        """Work on a session and post to a screen."""
        self._session = session
        self._screen = screen

    def load(self, opening: Opening) -> None:
        """Load the model."""
        try:
            model = self._session.load(
                opening.model, opening.options, lambda share: self._post(messages.Loading(share))
            )
            self._post(messages.Loaded(model))
        except Exception as error:
            self._post(messages.LoadFailed(error))

    def open_file(self, path: Path) -> None:
        """Read a file as a document, then have the model read it."""
        try:
            self._read(read_documents([str(path)], on_progress=self._opening))
        except Exception as error:
            self._post(messages.Failed(error))

    def read(self, document: Document, selection: Selection | None) -> None:
        """Have the model read a document, which is a selection of its file."""
        try:
            self._read(document, selection)
        except Exception as error:
            self._post(messages.Failed(error))

    def ask(self, question: str, max_tokens: int) -> None:
        """Ask a question."""
        try:
            read, answer = self._session.ask(
                question, max_tokens, self._progress(), lambda text: self._post(messages.AnswerText(text))
            )
            self._post(messages.AnswerEnded(read, answer))
        except Exception as error:
            self._post(messages.Failed(error))

    def _opening(self, done: int, total: int) -> None:
        if self._session.cancelled:
            raise Cancelled("opening the file was stopped")
        self._post(messages.Opening(done / total if total else 0.0))

    def _read(self, document: Document, selection: Selection | None = None) -> None:
        tokens = self._session.open(document, selection)
        self._post(messages.Opened(document, tokens))
        self._post(messages.ReadingEnded(self._session.read(self._progress())))

    def _progress(self) -> ReadProgress:
        return ReadProgress(
            tokens=lambda done, total: self._post(messages.Reading(done, total)),
            restoring=lambda share: self._post(messages.Restoring(share)),
            keeping=lambda share: self._post(messages.Keeping(share)),
            noticed=lambda sentence: self._post(messages.Noticed(sentence)),
        )

    def _post(self, message: Message) -> None:
        self._screen.post_message(message)
