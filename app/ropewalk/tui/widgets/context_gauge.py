"""The line that shows how much of the context is used, against L and L'."""

from __future__ import annotations

from rich.text import Text
from textual.widgets import Static


class ContextGauge(Static):
    """A bar up to the target length with a mark at the train length, and the numbers."""

    def __init__(self) -> None:
        """A gauge without a model: empty."""
        super().__init__()
        self._used = self._train = self._target = 0

    def show_lengths(self, train_length: int, target_length: int) -> None:
        """Take the model's lengths, in tokens."""
        self._train, self._target = train_length, target_length
        self.refresh()

    def show_used(self, tokens: int) -> None:
        """Take the tokens that the context holds."""
        self._used = tokens
        self.refresh()

    def render(self) -> Text:
        """The line, for the width there is."""
        if not self._target:
            return Text("")
        return gauge_line(self._used, self._train, self._target, self.size.width)


def gauge_line(used: int, train_length: int, target_length: int, width: int) -> Text:
    """`context ━━━━━━━━┃──────┃ 4,123 tokens · L 8,192 · L' 16,384`.

    Tokens within L, beyond L and beyond L' are told apart by colour, and the marks by their shape too.

    Args:
        used: tokens in the context.
        train_length: L.
        target_length: L'.
        width: columns there are.
    """
    figures = f" {used:,} tokens · L {train_length:,}"
    if target_length != train_length:
        figures += f" · L′ {target_length:,}"
    columns = max(4, width - len(figures))
    scale = columns / max(used, target_length)
    marks = {min(columns - 1, int(length * scale)) for length in (train_length, target_length)}
    filled = max(1, round(used * scale)) if used else 0
    line = Text(no_wrap=True, overflow="crop")
    for column in range(columns):
        tokens = column / scale
        style = "green" if tokens < train_length else "yellow" if tokens < target_length else "red"
        mark = "┃" if column in marks else "━" if column < filled else "─"
        line.append(mark, style=style if column < filled else "bold" if column in marks else "dim")
    return line.append(figures)
