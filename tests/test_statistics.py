"""Wilson's interval against published values and against the equation that defines it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.evaluation.statistics import Z_95, Accuracy, wilson

# Newcombe (1998), "Two-sided confidence intervals for the single proportion", Table I, method 3
NEWCOMBE = [
    (81, 263, 0.2553, 0.3662),
    (15, 148, 0.0624, 0.1605),
    (0, 20, 0.0, 0.1611),
    (1, 29, 0.0061, 0.1718),
]


@pytest.mark.parametrize(("hits", "trials", "low", "high"), NEWCOMBE)
def test_published_values(hits: int, trials: int, low: float, high: float) -> None:
    interval = wilson(hits, trials)
    assert round(interval.low, 4) == low
    assert round(interval.high, 4) == high


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 4))
def test_the_bounds_are_the_roots_of_the_score_equation(counts: tuple[int, int], z: float) -> None:
    """(x/n - p)^2 = z^2 p (1 - p) / n, as a polynomial in p."""
    hits, trials = counts
    share = hits / trials
    roots = np.roots([1 + z * z / trials, -2 * share - z * z / trials, share * share])
    interval = wilson(hits, trials, z)
    # numpy finds roots to about the square root of the precision where both are near
    assert [interval.low, interval.high] == pytest.approx(sorted(roots.real), abs=1e-7)
    assert 0 <= interval.low <= share <= interval.high <= 1


def test_none_and_all_are_bounded_exactly() -> None:
    assert wilson(0, 7).low == 0.0
    assert wilson(7, 7).high == 1.0
    assert wilson(0, 7).high < 1 and wilson(7, 7).low > 0


def test_no_trials_say_nothing() -> None:
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0.0, 1.0)
    assert Accuracy(0, 0).words == "none tried"


def test_only_all_are_a_hundred_percent_and_only_none_are_none() -> None:
    shares = [Accuracy(hits, 400).percent for hits in (0, 1, 199, 399, 400)]
    assert shares == ["0%", "1%", "50%", "99%", "100%"]


@pytest.mark.parametrize(("hits", "trials"), [(-1, 3), (4, 3), (1, 0)])
def test_counts_that_cannot_be_are_refused(hits: int, trials: int) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        wilson(hits, trials)


def test_words_have_counts_share_and_interval() -> None:
    """Of 7 in 9 by hand: (7 + 1.92073 +- 1.96 sqrt(14/9 + 0.960365)) / 12.841459."""
    spread = Z_95 * np.sqrt(14 / 9 + 0.960365)
    low, high = (8.920730 - spread) / 12.841459, (8.920730 + spread) / 12.841459
    assert Accuracy(7, 9).words == f"7/9, 78% ({low:.0%} to {high:.0%})" == "7/9, 78% (45% to 94%)"


def test_the_quantile_is_that_of_the_normal_distribution() -> None:
    from statistics import NormalDist

    assert pytest.approx(NormalDist().inv_cdf(0.975), abs=1e-6) == Z_95
