"""The application: one screen so far, over one session."""

from __future__ import annotations

from typing import ClassVar

from textual.app import App
from textual.binding import Binding, BindingType

from ropewalk.sessions import ReadingSession
from ropewalk.tui.chat_screen import ChatScreen
from ropewalk.tui.opening import Opening


class ChatApp(App[Exception]):
    """Reads and questions a document with one model.

    `run` returns None when the person quits, or the error for which the model cannot be loaded.
    """

    TITLE = "ropewalk"
    CSS_PATH = "chat.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+q", "quit", "Quit", priority=True)]

    def __init__(self, session: ReadingSession, opening: Opening) -> None:
        """The application over a session whose engine is started; it loads the model itself."""
        super().__init__()
        self._session = session
        self._opening = opening

    def on_mount(self) -> None:
        """Show the first screen."""
        self.push_screen(ChatScreen(self._session, self._opening))

    async def action_quit(self) -> None:
        """Leave, and stop the engine's work, so that its thread ends."""
        self.exit()
        self._session.cancel()
