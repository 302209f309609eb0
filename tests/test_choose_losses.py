"""Losses compared token by token, and who is dropped for them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ropewalk.evaluation.choose_losses import BLOCK, judge_losses, paired_difference, perplexity_of

RANDOM = np.random.default_rng(3)
HARD = RANDOM.gamma(2.0, 2.0, 512)
"""Losses as texts have them: tokens differ by nats."""


def under(offset: float, noise: float = 0.3, seed: int = 0) -> list[float]:
    """The same tokens under a plan that is worse by so much on average, more or less by chance."""
    drawn = np.random.default_rng(seed)
    return list(HARD + offset + drawn.normal(0.0, noise, len(HARD)))


def test_a_constant_difference_is_found_exactly() -> None:
    found = paired_difference(list(HARD + 0.4), list(HARD))
    assert found.mean == pytest.approx(0.4)
    assert found.low == pytest.approx(0.4)
    assert found.high == pytest.approx(0.4)


def test_the_interval_holds_the_true_difference_about_95_times_of_100() -> None:
    held = 0
    for seed in range(400):
        found = paired_difference(under(0.1, 0.5, seed), list(HARD))
        held += found.low <= 0.1 <= found.high
    assert 0.90 < held / 400 < 0.99


def test_few_tokens_have_an_interval_as_wide_as_they_deserve() -> None:
    held = 0
    drawn = np.random.default_rng(11)
    for _ in range(1000):
        found = paired_difference(list(drawn.normal(0.1, 0.5, 6 * BLOCK)), [0.0] * (6 * BLOCK))
        held += found.low <= 0.1 <= found.high
    assert 0.93 < held / 1000 < 0.97  # by the normal law, 0.89 of them


def test_neighbours_that_are_wrong_together_widen_the_interval() -> None:
    drawn = np.random.default_rng(1)
    apart = drawn.normal(0.0, 0.5, 512)
    together = np.repeat(drawn.normal(0.0, 0.5, 512 // BLOCK), BLOCK)
    narrow, wide = (paired_difference(list(HARD + d), list(HARD)) for d in (apart, together))
    assert wide.high - wide.low > 2.5 * (narrow.high - narrow.low)


def test_too_few_tokens_say_nothing() -> None:
    found = paired_difference([1.0] * (5 * BLOCK - 1), [0.0] * (5 * BLOCK - 1))
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert all(verdict.kept for verdict in judge_losses({"a": [9.0] * 8, "b": [1.0] * 8}))


def test_what_is_surely_worse_by_the_margin_is_dropped_and_nothing_else() -> None:
    losses = {"worse": under(0.6, seed=1), "best": under(0.0, seed=2), "alike": under(0.1, seed=3)}
    verdicts = judge_losses(losses, margin=0.25)
    assert [verdict.label for verdict in verdicts] == ["best", "alike", "worse"]
    assert [verdict.kept for verdict in verdicts] == [True, True, False]
    assert verdicts[2].excess.low > 0.25
    assert verdicts[0].perplexity == pytest.approx(perplexity_of(losses["best"]))


def test_the_best_is_never_dropped_under_known_noise() -> None:
    for seed in range(100):
        losses = {str(i): under(0.05 * i, 0.8, seed=100 * seed + i) for i in range(6)}
        kept = [verdict.label for verdict in judge_losses(losses) if verdict.kept]
        assert "0" in kept


def test_the_plain_model_stays_whatever_its_losses() -> None:
    losses = {"none": under(3.0), "best": under(0.0)}
    assert all(verdict.kept for verdict in judge_losses(losses, {"none"}))


def test_nobody_is_dropped_for_a_plan_that_forgets_the_text() -> None:
    losses = {"windows": under(-1.0, seed=1), "best": under(0.0, seed=2), "worse": under(0.9, seed=3)}
    verdicts = judge_losses(losses, forgetful={"windows"})
    assert [(verdict.label, verdict.kept) for verdict in verdicts] == [
        ("best", True),
        ("worse", False),
        ("windows", True),
    ]
    assert verdicts[1].excess.mean == pytest.approx(0.9, abs=0.1)
    assert verdicts[2].excess.mean == pytest.approx(-1.0, abs=0.1)
