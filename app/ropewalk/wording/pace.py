"""How fast a step goes and how long it will still take."""

from __future__ import annotations

import time
from collections.abc import Callable

_SECONDS_BEFORE_JUDGING = 0.5


class Pace:
    """Rate and time left of a step, from the reports of how far it is.

    What was done before the first report (a prefix that was reused) counts for nothing.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """Measure on a clock; tests bring their own."""
        self._now = now
        self._started = self._reported = now()
        self._start = self._done = self._total = 0.0
        self._begun = False

    def report(self, done: float, total: float) -> None:
        """Note how far the step is."""
        now = self._now()
        if not self._begun or done < self._done:
            self._begun, self._started, self._start = True, now, done
        self._reported, self._done, self._total = now, done, total

    @property
    def rate(self) -> float | None:
        """Amount per second; None while it is too early to tell."""
        elapsed = self._reported - self._started
        if elapsed < _SECONDS_BEFORE_JUDGING or self._done <= self._start:
            return None
        return (self._done - self._start) / elapsed

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the step is done at this rate, counting down between reports; None as above."""
        if self.rate is None:
            return None
        return max(0.0, (self._total - self._done) / self.rate - (self._now() - self._reported))
