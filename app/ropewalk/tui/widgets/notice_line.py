"""One sentence to the person: a hint or an error."""

from __future__ import annotations

from textual.widgets import Static


class NoticeLine(Static):
    """Hidden while there is nothing to say."""

    def __init__(self) -> None:
        """A hidden line."""
        super().__init__(markup=False)
        self.display = False

    def say(self, sentence: str, *, error: bool = False) -> None:
        """Show a sentence, in the colour of errors if it is one."""
        self.update(sentence)
        self.set_class(error, "error")
        self.display = True

    def clear(self) -> None:
        """Hide the line."""
        self.display = False
