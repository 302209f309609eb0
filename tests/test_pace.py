"""Rate and time left, on a clock of the test's own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ropewalk.wording.pace import Pace


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


def run(
    seconds_at: Callable[[float], float], reports: range, total: int, *, deepens: bool = True
) -> tuple[Pace, Clock]:
    """A pace after the given reports of a step that has taken `seconds_at(done)`."""
    clock = Clock()
    pace = Pace(clock, deepens=deepens)
    for done in reports:
        clock.time = 100.0 + seconds_at(done)
        pace.report(done, total)
    return pace, clock


def test_nothing_is_said_before_there_is_something_to_judge_by() -> None:
    pace, _ = run(lambda done: 0.0, range(1), 1000)
    assert pace.rate is None
    assert pace.seconds_left is None


def test_a_steady_step_ends_when_its_rate_says() -> None:
    pace, clock = run(lambda done: done / 50, range(0, 501, 100), 1000)
    assert pace.rate == pytest.approx(50)
    assert pace.seconds_left == pytest.approx(10)
    clock.time += 4  # it counts down between reports
    assert pace.seconds_left == pytest.approx(6)


def test_a_step_that_gets_slower_is_not_promised_too_early() -> None:
    def seconds(done: float) -> float:
        return done / 250 + 4e-7 * done**2

    pace, _ = run(seconds, range(0, 4097, 512), 12_000)
    assert pace.seconds_left == pytest.approx(seconds(12_000) - seconds(4096), rel=1e-6)


def test_many_texts_are_not_taken_for_one_deep_one() -> None:
    def seconds(done: float) -> float:  # of the first text; each of the hundred takes as long
        return done / 250 + 4e-7 * done**2

    pace, _ = run(seconds, range(0, 4097, 512), 409_600, deepens=False)
    assert pace.seconds_left == pytest.approx(99 * seconds(4096))


def test_a_reused_prefix_counts_for_the_depth_and_not_for_the_rate() -> None:
    def seconds(done: float) -> float:
        return (done - 8000) / 250 + 4e-7 * (done**2 - 8000**2)

    pace, _ = run(seconds, range(8000, 10_049, 512), 12_000)
    assert pace.rate == pytest.approx(2048 / seconds(10_048))
    assert pace.seconds_left == pytest.approx(seconds(12_000) - seconds(10_048), rel=1e-6)


def test_a_step_that_gets_faster_goes_by_its_rate_so_far() -> None:
    pace, _ = run(lambda done: done**0.5, range(0, 401, 100), 900)
    assert pace.seconds_left == pytest.approx(500 / (400 / 20))


def test_a_step_that_starts_over_is_judged_anew() -> None:
    pace, clock = run(lambda done: done / 50, range(0, 501, 100), 1000)
    pace.report(0, 100)
    clock.time += 2
    pace.report(20, 100)
    assert pace.rate == pytest.approx(10)
    assert pace.seconds_left == pytest.approx(8)
