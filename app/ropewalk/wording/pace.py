"""How fast a step goes and how long it will still take.

Reading gets slower the deeper it is, since each token attends to all before it: the time for `d` tokens
grows as `a d + b d^2`. Both are fitted to the reports so far (least squares through the start); where the
fit says that the step gets faster, or the reports are too few to tell, it is a plain rate. So it is where
many texts are read one after the other: each begins at no depth.
"""

from __future__ import annotations

import time
from collections.abc import Callable

_SECONDS_BEFORE_JUDGING = 0.5
_REPORTS_BEFORE_FITTING = 3


class Pace:
    """Rate and time left of a step, from the reports of how far it is.

    What was done before the first report (a prefix that was reused) counts for nothing.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic, *, deepens: bool = True) -> None:
        """Measure on a clock.

        Args:
            now: the clock; tests bring their own.
            deepens: whether the step is one text, whose tokens cost the more the deeper they are.
        """
        self._now = now
        self._deepens = deepens
        self._begin(0.0)
        self._done = self._total = 0.0
        self._begun = False

    def report(self, done: float, total: float) -> None:
        """Note how far the step is."""
        if not self._begun or done < self._done:
            self._begun = True
            self._begin(done)
        self._reported, self._done, self._total = self._now(), done, total
        self._fit.add(*self._terms(done), self._reported - self._started)

    @property
    def rate(self) -> float | None:
        """Amount per second so far; None while it is too early to tell."""
        elapsed = self._reported - self._started
        if elapsed < _SECONDS_BEFORE_JUDGING or self._done <= self._start:
            return None
        return (self._done - self._start) / elapsed

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the step is done at this pace, counting down between reports; None as above."""
        rate = self.rate
        if rate is None:
            return None
        fitted = self._fit.solution() if self._deepens else None
        if fitted is None:
            left = (self._total - self._done) / rate
        else:
            now, end = self._terms(self._done), self._terms(self._total)
            left = sum(cost * (at_end - at) for cost, at, at_end in zip(fitted, now, end, strict=True))
        return max(0.0, left - (self._now() - self._reported))

    def _begin(self, start: float) -> None:
        self._started = self._reported = self._now()
        self._start = start
        self._fit = _Fit()

    def _terms(self, done: float) -> tuple[float, float]:
        """What a first and a second share of the time are proportional to, from the start on."""
        return done - self._start, done**2 - self._start**2


class _Fit:
    """Least squares of `t = a x + b y`, point by point."""

    def __init__(self) -> None:
        self._count = 0
        self._xx = self._xy = self._yy = self._xt = self._yt = 0.0

    def add(self, x: float, y: float, t: float) -> None:
        self._count += x > 0
        self._xx += x * x
        self._xy += x * y
        self._yy += y * y
        self._xt += x * t
        self._yt += y * t

    def solution(self) -> tuple[float, float] | None:
        """The costs (a, b), or None where they are not known or one is negative."""
        determinant = self._xx * self._yy - self._xy**2
        if self._count < _REPORTS_BEFORE_FITTING or determinant <= 1e-9 * self._xx * self._yy:
            return None
        a = (self._xt * self._yy - self._yt * self._xy) / determinant
        b = (self._yt * self._xx - self._xt * self._xy) / determinant
        return (a, b) if a >= 0 and b >= 0 else None
