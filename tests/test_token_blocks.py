"""Intervals of a mean over correlated tokens: against published quantiles, and by how often they hold."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.evaluation.token_blocks import (
    ENOUGH_WINDOWS,
    FEWEST_CLUSTERS,
    MOST_CLUSTERS,
    RUN_TOKENS,
    mean_loss,
    run_sizes,
    run_sums,
    student_t_95,
)


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(4, 2.776), (5, 2.571), (7, 2.365), (10, 2.228), (20, 2.086), (31, 2.040)]
)
def test_student_t_is_the_tables(freedom: int, quantile: float) -> None:
    assert student_t_95(freedom) == pytest.approx(quantile, abs=1.5e-3)


@given(st.lists(st.floats(0, 20), min_size=1, max_size=1000))
def test_runs_hold_every_token_once(losses: list[float]) -> None:
    sums, sizes = run_sums(losses), run_sizes(len(losses))

    assert len(sums) == len(sizes)
    assert sum(sizes) == len(losses)
    assert all(size >= min(RUN_TOKENS, len(losses)) for size in sizes)
    assert all(size < 2 * RUN_TOKENS for size in sizes)
    assert math.fsum(sums) == pytest.approx(math.fsum(losses))
    ends = np.cumsum(sizes)
    first = losses[: ends[0]]
    assert sums[0] == pytest.approx(math.fsum(first))


def correlated(rng: np.random.Generator, n: int, rho: float) -> npt.NDArray[np.float64]:
    """Losses about 3, each like the last: their correlation reaches some 1 / (1 - rho) tokens."""
    noise = rng.normal(size=n)
    values = np.empty(n)
    values[0] = noise[0] / math.sqrt(1 - rho**2)
    for i in range(1, n):
        values[i] = rho * values[i - 1] + noise[i]
    return values + 3.0


def holds(loss_mean: float, half_width: float | None) -> bool:
    assert half_width is not None
    return abs(loss_mean - 3.0) <= half_width


def test_intervals_hold_nineteen_times_of_twenty_though_neighbours_are_alike() -> None:
    """Where the variance of single tokens, as if they were independent, holds in two of five."""
    rng = np.random.default_rng(11)
    blocked, naive = 0, 0
    for _ in range(300):
        losses = correlated(rng, 4096, 0.9)
        told = mean_loss([(4096, run_sums(losses.tolist()))])
        blocked += holds(told.mean, told.half_width)
        naive += abs(losses.mean() - 3.0) <= 1.96 * losses.std(ddof=1) / math.sqrt(4096)
    assert 0.90 <= blocked / 300 <= 0.98
    assert naive / 300 < 0.5


def test_windows_are_clusters_where_there_are_many() -> None:
    """Each from a part of the text that is hard or easy as a whole: blocks within them would not see it."""
    rng = np.random.default_rng(12)
    held = 0
    for _ in range(300):
        windows = [correlated(rng, 512, 0.5) + rng.normal() for _ in range(ENOUGH_WINDOWS)]
        told = mean_loss([(512, run_sums(window.tolist())) for window in windows])
        assert told.n_clusters == ENOUGH_WINDOWS
        held += holds(told.mean, told.half_width)
    assert 0.90 <= held / 300 <= 0.98


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=ENOUGH_WINDOWS - 1))
def test_no_interval_is_from_few_clusters(sizes: list[int]) -> None:
    rng = np.random.default_rng(13)
    windows = [rng.exponential(size=size).tolist() for size in sizes]
    told = mean_loss([(len(window), run_sums(window)) for window in windows])

    assert told.mean == pytest.approx(np.mean(np.concatenate(windows)))
    assert (told.half_width is None) == (told.n_clusters < FEWEST_CLUSTERS)
    assert told.n_clusters <= max(MOST_CLUSTERS, len(sizes))
    assert told.n_clusters == sum(
        min(max(1, size // RUN_TOKENS), MOST_CLUSTERS // len(sizes)) for size in sizes
    )


def test_what_is_no_number_has_no_interval() -> None:
    assert mean_loss([(640, (math.inf,) * 10)]).half_width is None
