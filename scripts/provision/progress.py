"""One long step's progress, with an estimate of the time left."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

_REDRAW_SECONDS = 0.5
_LINE_SECONDS = 20.0  # between lines where the output is not a terminal


class Progress:
    """A step that may take long: a line redrawn on a terminal, a line now and then elsewhere.

    The time left is extrapolated from the work reported since the first report; until there is any,
    it is what `expected_seconds` leaves (how long the step took where it was last measured).
    """

    def __init__(
        self,
        label: str,
        expected_seconds: float | None = None,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Describe the step; it begins when the context is entered."""
        self.detail = ""  # what the step is at, shown behind the estimate
        self._label = label
        self._expected = expected_seconds
        self._stream = stream or sys.stderr
        self._clock = clock
        self._redraws = self._stream.isatty()
        self._started = clock()
        self._first: tuple[float, float] | None = None  # (when, done) at the first report
        self._done = 0.0
        self._total = 0.0
        self._width = 0
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Progress:
        """Begin the step."""
        self._started = self._clock()
        self._show()
        self._ticker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the step, and say how long it took if it was done."""
        self._stop.set()
        self._ticker.join()
        took = self._clock() - self._started
        end = f"{self._label}: {'stopped' if kind else 'done'} after {duration(took)}"
        self._write(end, last=True)

    def update(self, done: float, total: float) -> None:
        """Report that `done` of `total` units of work are finished."""
        with self._lock:
            if self._first is None or total != self._total:
                self._first = (self._clock(), done)
            self._done, self._total = done, total

    def seconds_left(self) -> float | None:
        """The estimate; None where there is nothing to estimate from."""
        with self._lock:
            now = self._clock()
            if self._first is not None:
                since, before = self._first
                if self._done > before and now > since:
                    return (self._total - self._done) * (now - since) / (self._done - before)
            if self._expected is not None and now - self._started < self._expected:
                return self._expected - (now - self._started)
            return None

    def line(self) -> str:
        """The step as one line of text."""
        parts = [self._label]
        if self._total > 0:
            parts.append(f"{min(1.0, self._done / self._total):4.0%}")
        left = self.seconds_left()
        if left is not None:
            parts.append(f"about {duration(left)} left")
        elif self._expected is not None:
            parts.append(f"longer than the usual {duration(self._expected)}, nearly there")
        if self.detail:
            parts.append(f"({self.detail})")
        return "  ".join(parts)

    def _tick(self) -> None:
        while not self._stop.wait(_REDRAW_SECONDS if self._redraws else _LINE_SECONDS):
            self._show()

    def _show(self) -> None:
        self._write(self.line(), last=False)

    def _write(self, text: str, last: bool) -> None:
        if self._redraws:
            padded = text.ljust(self._width)
            self._width = len(text)
            self._stream.write("\r" + padded + ("\n" if last else ""))
        else:
            self._stream.write(text + "\n")
        self._stream.flush()


def duration(seconds: float) -> str:
    """A length of time in words: `4 s`, `2 min 05 s`, `1 h 10 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
