"""The small screen that asks which file to read."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.suggester import Suggester
from textual.widgets import Input, Label


class PathSuggester(Suggester):
    """Completes the name of a file or directory as it is typed (right arrow takes it)."""

    def __init__(self) -> None:
        """Look at the disk each time: files come and go."""
        super().__init__(use_cache=False, case_sensitive=True)

    async def get_suggestion(self, value: str) -> str | None:
        """The first name in alphabetical order that goes on from what is typed."""
        typed = _expanded(value)
        directory, start = (typed, "") if value.endswith("/") else (typed.parent, typed.name)
        try:
            names = sorted(entry.name + "/" * entry.is_dir() for entry in directory.iterdir())
        except OSError:
            return None
        match = next((name for name in names if name.startswith(start) and not name.startswith(".")), None)
        return None if match is None else value[: len(value) - len(start)] + match


class OpenFileScreen(ModalScreen[Path | None]):
    """Asks for a path; gives None where the person thinks better of it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "Cancel")]

    def compose(self) -> ComposeResult:
        """A label and an input."""
        with Vertical(id="open-file"):
            yield Label("Text, PDF, EPUB, DOCX, HTML file or folder (→ completes, Enter opens, Esc cancels)")
            yield Input(placeholder="path/to/file", suggester=PathSuggester(), id="open-file-path")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Give the path."""
        event.stop()
        self.dismiss(_expanded(event.value.strip()) if event.value.strip() else None)


def _expanded(path: str) -> Path:
    """A path with the home folder for `~`; as it stands where there is no such person."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)
