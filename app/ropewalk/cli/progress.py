"""Progress of long steps on stderr, with the time left: bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from ropewalk.wording.pace import Pace
from ropewalk.wording.quantities import clock, size

Update = Callable[[float, float], None]
"""Told how much is done, and how much there is in all."""

_SECONDS_BETWEEN_LINES = 10.0


class Measure:
    """Puts how far a step is into words.

    Attributes:
        deepens: whether it gets slower as one text does that is read.
    """

    deepens = True

    def amount(self, done: float, total: float) -> str:
        """A share: `42%`."""
        return f"{done / total:.0%}" if total else ""

    def rate(self, per_second: float) -> str:
        """Nothing: a share per second tells nobody anything."""
        return ""


class Tokens(Measure):
    """`4,096 of 12,000 tokens`, `131/s`."""

    def amount(self, done: float, total: float) -> str:
        """Tokens done and in all."""
        return f"{done:,.0f} of {total:,.0f} tokens"

    def rate(self, per_second: float) -> str:
        """Tokens per second."""
        return f"{per_second:,.0f}/s" if per_second >= 10 else f"{per_second:.1f}/s"


class TokensOfTexts(Tokens):
    """The same of several texts, one after the other."""

    deepens = False


class Bytes(Measure):
    """`12.0 MB of 98.4 MB`, `3.1 MB/s`."""

    def amount(self, done: float, total: float) -> str:
        """Bytes done and in all."""
        return f"{size(round(done))} of {size(round(total))}"

    def rate(self, per_second: float) -> str:
        """Bytes per second."""
        return f"{size(round(per_second))}/s"


class ProgressReport:
    """Shows steps at work, one inside the other."""

    def __init__(self) -> None:
        """Report on this process's stderr."""
        self._bars: Progress | None = None

    @contextmanager
    def step(self, label: str, measure: Measure) -> Iterator[Update]:
        """Show a step while the block runs.

        Args:
            label: what is being done: "reading book.txt".
            measure: puts how far it is into words.

        Yields:
            A function to be told how far it is.
        """
        if not sys.stderr.isatty():
            yield _Lines(label, measure).update
        elif self._bars is not None:
            with _bar(self._bars, label, measure) as update:
                yield update
        else:
            columns = (
                TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
                BarColumn(bar_width=None),
                _Figures(table_column=Column(no_wrap=True)),
            )
            with Progress(*columns, console=Console(stderr=True), transient=True, expand=True) as bars:
                self._bars = bars
                try:
                    with _bar(bars, label, measure) as update:
                        yield update
                finally:
                    self._bars = None


@contextmanager
def _bar(bars: Progress, label: str, measure: Measure) -> Iterator[Update]:
    pace = Pace(deepens=measure.deepens)
    task = bars.add_task(label, total=None, pace=pace, measure=measure)

    def update(done: float, total: float) -> None:
        pace.report(done, total)
        bars.update(task, completed=done, total=total)

    try:
        yield update
    finally:
        bars.remove_task(task)


class _Figures(ProgressColumn):
    """The words beside a bar."""

    def render(self, task: Task) -> Text:
        """Words for a step, none before its first report."""
        if task.total is None:
            return Text("")
        return Text(_figures(task.completed, task.total, task.fields["pace"], task.fields["measure"]))


def _figures(done: float, total: float, pace: Pace, measure: Measure) -> str:
    rate, left = pace.rate, pace.seconds_left
    parts = (
        measure.amount(done, total),
        "" if rate is None else measure.rate(rate),
        "" if left is None else f"{clock(left)} left",
    )
    return ", ".join(filter(None, parts))


class _Lines:
    """A line every ten seconds, for logs; steps that take less are silent."""

    def __init__(self, label: str, measure: Measure) -> None:
        self._label, self._measure = label, measure
        self._pace = Pace(deepens=measure.deepens)
        self._last = time.monotonic()

    def update(self, done: float, total: float) -> None:
        self._pace.report(done, total)
        now = time.monotonic()
        if now - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = now
            sys.stderr.write(f"{self._label}: {_figures(done, total, self._pace, self._measure)}\n")
            sys.stderr.flush()
