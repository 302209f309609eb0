"""The line that shows a long step: what, how far, how fast, how long still."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Label, ProgressBar

from ropewalk.wording.pace import Pace
from ropewalk.wording.quantities import clock


class ActivityBar(Horizontal):
    """A label, a bar and figures; hidden while nothing goes on."""

    def __init__(self) -> None:
        """A hidden bar."""
        super().__init__()
        self._pace = Pace()
        self._tokens: tuple[int, int] | None = None

    def compose(self) -> ComposeResult:
        """Label, bar, figures."""
        yield Label("", id="activity-label", markup=False)
        yield ProgressBar(show_percentage=False, show_eta=False, id="activity-progress")
        yield Label("", id="activity-figures", markup=False)

    def on_mount(self) -> None:
        """Count the time left down between reports."""
        self.display = False
        self.set_interval(1.0, self._show_figures)

    def begin(self, label: str) -> None:
        """Show that a step has begun."""
        self._pace, self._tokens = Pace(), None
        self.query_one("#activity-label", Label).update(label)
        self.query_one("#activity-figures", Label).update("")
        self.query_one(ProgressBar).update(total=None, progress=0)
        self.display = True

    def share(self, done: float, label: str | None = None) -> None:
        """Show how much of a step is done, 0 to 1, under another label where one is given."""
        if label is not None:
            self._tokens = None
            self.query_one("#activity-label", Label).update(label)
            self.query_one("#activity-figures", Label).update("")
        self.query_one(ProgressBar).update(total=1.0, progress=done)

    def tokens(self, done: int, total: int, label: str | None = None) -> None:
        """Show how many tokens of how many are read, under another label where one is given."""
        if label is not None:
            self.query_one("#activity-label", Label).update(label)
        self._pace.report(done, total)
        self._tokens = (done, total)
        self.query_one(ProgressBar).update(total=total, progress=done)
        self._show_figures()

    def end(self) -> None:
        """Hide the line."""
        self.display = False

    def _show_figures(self) -> None:
        if self._tokens is None or not self.display:
            return
        done, total = self._tokens
        rate, left = self._pace.rate, self._pace.seconds_left
        parts = (
            f"{done:,}/{total:,} tokens",
            "" if rate is None else f"{rate:,.0f}/s",
            "" if left is None else f"{clock(left)} left",
        )
        self.query_one("#activity-figures", Label).update(" · ".join(filter(None, parts)))
