"""k_max of Position Interpolation's passkey test, on grids written by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from retrieval_rows import cells, result
from ropewalk.evaluation.effective_window import EffectiveWindow, effective_context_window
from ropewalk.evaluation.statistics import wilson


def one(grid: dict[int, dict[float, str]]) -> EffectiveWindow:
    (window,) = effective_context_window(cells(grid))
    return window


def test_one_length_as_in_the_paper() -> None:
    """32 distances 256 apart in a window of 8192: the first seven hold, then a gap, then one by chance.

    1792 = 7 * 256 is what the paper's Table 4 has for direct fine-tuning to 8192.
    """
    rows = [
        replace(
            result(length=8192, depth=1 - k / 32, trial=trial, distance=256 * k),
            hit=trial < (10 if k <= 6 else 2 if k in (7, 20) else 1),
        )
        for k in range(1, 33)
        for trial in range(10)
    ]
    (window,) = effective_context_window(rows)
    assert window.tokens == 1792
    assert window.reached is not None and window.reached.accuracy.hits == 2
    assert window.fails_at is not None and window.fails_at.distance == 2048
    assert window.farthest is not None and window.farthest.distance == 5120
    assert window.trials == 320


def test_a_fifth_is_enough_and_less_is_not() -> None:
    assert one({1000: {0.0: "1/5"}}).tokens == 980
    assert one({1000: {0.0: "1/6"}}).tokens == 0
    assert one({1000: {0.0: "0/5"}}).tokens == 0


def test_where_nothing_fails_it_is_at_least_the_longest_tried() -> None:
    window = one({4000: {0.1: "3/3", 0.9: "3/3"}, 8000: {0.1: "2/3", 0.9: "3/3"}})
    assert window.tokens == 7180 and window.fails_at is None
    interval = wilson(2, 3)
    assert window.words == (
        "at least 7,180 tokens back in prompts of 8,000: "
        f"2/3, 67% ({interval.low:.0%} to {interval.high:.0%}); nothing tried fails"
    )


def test_a_prompt_too_long_for_the_model_does_not_take_back_what_shorter_ones_show() -> None:
    """A model of 8k fails in prompts of 12,000 even at 1,180 tokens; in those of 8,000 it reaches 7,180."""
    window = one({8000: {0.1: "3/3", 0.9: "3/3"}, 12000: {0.1: "0/3", 0.9: "0/3"}})
    assert window.tokens == 7180
    assert window.fails_at is not None
    assert (window.fails_at.length, window.fails_at.distance) == (12000, 1180)


def test_a_shorter_prompt_that_fails_nearer_counts_against_longer_ones() -> None:
    window = one({4000: {0.0: "0/3", 0.5: "3/3"}, 8000: {0.0: "3/3", 0.9: "3/3"}})
    assert window.tokens == 1980, "3,980 in prompts of 4,000 fails, so 7,980 in those of 8,000 is beyond"
    assert window.farthest is not None and window.farthest.distance == 7980


def test_where_the_nearest_fails_nothing_is_reached() -> None:
    window = one({4000: {0.1: "3/3", 0.9: "0/3"}})
    assert window.tokens == 0 and window.reached is None
    assert window.words.startswith("not reached; fails already at 380 tokens back in prompts of 4,000: 0/3")
    assert window.as_json()["effective_window"] == 0 and window.as_json()["reached"] is None


def test_trials_of_a_cell_belong_together_and_the_shortest_distance_is_claimed() -> None:
    rows = [result(trial=0, distance=1903), result(trial=1, distance=1901), result(trial=2, distance=1902)]
    (window,) = effective_context_window(rows)
    assert window.tokens == 1901 and window.reached is not None and window.reached.accuracy.trials == 3


def test_methods_are_told_apart_in_their_order() -> None:
    rows = (*cells({1000: {0.5: "0/2"}}, ["yarn"]), *cells({1000: {0.5: "2/2"}}, ["dprope"]))
    assert [(w.method, w.tokens) for w in effective_context_window(rows)] == [("yarn", 0), ("dprope", 480)]
    assert effective_context_window([]) == ()


def test_json_has_counts_and_intervals() -> None:
    reached = one({1000: {0.5: "2/3"}}).as_json()["reached"]
    interval = wilson(2, 3)
    assert reached == {
        **{"length": 1000, "distance": 480, "hits": 2, "trials": 3, "share": pytest.approx(2 / 3)},
        **{"low": interval.low, "high": interval.high},
    }
