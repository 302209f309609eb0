"""Attention score of identical tokens against distance: what the papers state of it, as numbers.

The model is the papers': LLaMA-2 (128 dimensions, base 10000, L = 4096).
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from ropewalk_plan import ContextPlan, RopeSpec, make_plan
from ropewalk_plan.attention_score import (
    Band,
    attention_scores,
    band_pairs,
    curvature_bound,
    extrapolation_bound,
    interpolation_bound,
)

L = 4096
LLAMA2 = RopeSpec(architecture="llama", n_rot=128, base=10000.0, train_length=L, n_layer=32)
FAR = np.arange(128 * L, 256 * L, 7)  # "ultra-long": the slowest pair turns ten times in it


def plan(method: str, target_length: int = 256 * L, **options: str) -> ContextPlan:
    return make_plan(LLAMA2, method, target_length, options=options)


def rotated(position: float, plan_base: float = 10000.0) -> np.ndarray:
    """A vector of ones turned as RoPE turns it: the paper's Eq. 1, written out pair by pair."""
    vector = np.ones(128)
    result = np.empty(128)
    for i in range(64):
        angle = position * plan_base ** (-2 * i / 128)
        x, y = vector[2 * i], vector[2 * i + 1]
        result[2 * i] = math.cos(angle) * x - math.sin(angle) * y
        result[2 * i + 1] = math.sin(angle) * x + math.cos(angle) * y
    return result


class TestScore:
    @pytest.mark.parametrize("distance", [0, 1, 17, 4095, 60_001])
    def test_is_half_the_product_of_rotated_ones(self, distance: int) -> None:
        product = rotated(distance + 5) @ rotated(5)
        score = attention_scores(plan("none"), LLAMA2, np.array([distance]))
        assert score[0] == pytest.approx(product / 2, abs=1e-6)

    def test_interpolation_stretches_the_curve(self) -> None:
        distances = np.arange(L)
        stretched = attention_scores(plan("pi", 4 * L), LLAMA2, 4 * distances)
        assert stretched == pytest.approx(attention_scores(plan("none"), LLAMA2, distances), abs=1e-9)

    def test_the_attention_factor_counts_on_both_sides(self) -> None:
        at_once = attention_scores(plan("yarn", 4 * L), LLAMA2, np.array([0]))
        assert at_once[0] == pytest.approx(64 * (0.1 * math.log(4) + 1) ** 2, rel=1e-6)

    def test_logn_scales_the_query_beyond_the_train_length(self) -> None:
        distances = np.array([100, L - 1, L, 3 * L])
        ratio = attention_scores(plan("logn"), LLAMA2, distances) / attention_scores(
            plan("none"), LLAMA2, distances
        )
        assert ratio == pytest.approx([1.0, 1.0, math.log(L + 1, L), math.log(3 * L + 1, L)])

    def test_a_model_that_scales_already_keeps_its_own_factors(self) -> None:
        scaled = RopeSpec("llama", 128, 10000.0, L, 32, own_factors=(2.0,) * 64, own_attention_factor=1.5)
        plain = attention_scores(plan("none"), LLAMA2, np.arange(L))
        own = attention_scores(make_plan(scaled, "none", 2 * L), scaled, 2 * np.arange(L))
        assert own == pytest.approx(2.25 * plain, abs=1e-9)
        extended = attention_scores(make_plan(scaled, "pi", 2 * L), scaled, 4 * np.arange(L))
        assert extended == pytest.approx(2.25 * plain, abs=1e-9)


class TestBands:
    def test_are_the_papers_first_and_last_36_dimensions(self) -> None:
        assert band_pairs(64, Band.HIGH) == range(18)
        assert band_pairs(64, Band.LOW) == range(46, 64)
        assert band_pairs(64, Band.ALL) == range(64)
        assert band_pairs(1, Band.LOW) == band_pairs(1, Band.HIGH) == range(1)

    def test_high_frequencies_decay_near_and_low_ones_far(self) -> None:
        """Appendix A.1.3, points 1 to 3, each band relative to its score at distance 0 (18)."""
        near, far = np.arange(16, 64), np.arange(8 * L, 16 * L)
        high = {
            name: attention_scores(plan("none"), LLAMA2, d, Band.HIGH)
            for name, d in (("n", near), ("f", far))
        }
        low = {
            name: attention_scores(plan("none"), LLAMA2, d, Band.LOW) for name, d in (("n", near), ("f", far))
        }
        assert abs(high["n"].mean()) < 0.2 * 18, "decays at short distances"
        assert low["n"].min() > 0.99 * 18, "does not tell near tokens apart"
        assert high["f"].std() > 2.5, "goes on oscillating"
        ultra_far = np.arange(0, 4096 * L, 1009)[1:]
        assert abs(attention_scores(plan("none"), LLAMA2, ultra_far, Band.LOW).mean()) < 0.1, "mean 0"


class TestPeriodicExtension:
    """Appendix A.1.2, points 1 to 3."""

    @pytest.mark.parametrize("method", ["extra-pe", "extra-mpe"])
    @pytest.mark.parametrize("band", list(Band))
    def test_equals_the_base_model_below_the_train_length(self, method: str, band: Band) -> None:
        distances = np.arange(L)
        assert np.array_equal(
            attention_scores(plan(method), LLAMA2, distances, band),
            attention_scores(plan("none"), LLAMA2, distances, band),
        )

    @pytest.mark.parametrize("method", ["extra-pe", "extra-mpe"])
    def test_the_mean_far_beyond_is_above_0(self, method: str) -> None:
        base = attention_scores(plan("none"), LLAMA2, FAR)
        extended = attention_scores(plan(method), LLAMA2, FAR)
        assert abs(base.mean()) < 0.1, "the base model's is 0"
        assert extended.mean() == pytest.approx(8.61, abs=0.1)

    @pytest.mark.parametrize("method", ["extra-pe", "extra-mpe"])
    def test_the_mean_far_beyond_is_that_of_the_mapped_pairs_within_the_train_length(
        self, method: str
    ) -> None:
        """The value it converges to: what the pairs from 45 on score on average within L."""
        frequencies = 10000.0 ** (-2 * np.arange(45, 64) / 128)
        within = np.cos(np.outer(np.arange(L), frequencies)).sum(axis=1).mean()
        assert attention_scores(plan(method), LLAMA2, FAR).mean() == pytest.approx(within, abs=0.1)

    def test_extra_pe_jumps_at_multiples_of_the_train_length_and_extra_mpe_does_not(self) -> None:
        steps = {
            method: np.abs(np.diff(attention_scores(plan(method), LLAMA2, np.arange(6 * L), Band.LOW)))
            for method in ("none", "extra-pe", "extra-mpe")
        }
        at = [multiple * L - 1 for multiple in range(1, 6)]  # the step from kL - 1 to kL
        elsewhere = np.delete(steps["extra-pe"], at)
        assert steps["extra-pe"][at] == pytest.approx([16.607] * 5, abs=0.001)
        assert elsewhere.max() == pytest.approx(steps["none"].max(), rel=1e-6)
        assert steps["extra-mpe"].max() == pytest.approx(steps["none"].max(), rel=1e-6)
        assert steps["extra-mpe"][at].max() <= steps["none"].max()


class TestBounds:
    """Position Interpolation, Theorem 2.1, and the bound of extrapolation it compares with."""

    def test_the_papers_number(self) -> None:
        assert interpolation_bound(128, 10000.0) == pytest.approx(128 / 294.73, rel=1e-5)

    def test_extrapolation_bounds_the_score_and_is_far_larger(self) -> None:
        distances = np.arange(L + 1)
        bound = extrapolation_bound(LLAMA2.frequencies, distances)
        assert np.all(np.abs(attention_scores(plan("none"), LLAMA2, distances)) <= bound)
        assert bound.min() / 2 > 128, "B(s) > d, as the paper finds"
        assert bound.min() / interpolation_bound(128, 10000.0) > 2 * 294.73, "its 'about 600 times'"

    @pytest.mark.parametrize("start", [0, 1, 2, 100, 4000])
    def test_between_two_tokens_the_score_is_near_the_straight_line(self, start: int) -> None:
        fine = start + np.linspace(0, 1, 101)
        scores = np.cos(np.outer(fine, LLAMA2.frequencies)).sum(axis=1)
        line = np.linspace(scores[0], scores[-1], 101)
        assert np.abs(scores - line).max() <= curvature_bound(LLAMA2.frequencies)

    def test_the_printed_bound_is_a_little_too_small(self) -> None:
        """The slip in the paper's proof: identical tokens within one token of each other exceed it."""
        fine = np.linspace(0, 1, 1001)
        scores = np.cos(np.outer(fine, LLAMA2.frequencies)).sum(axis=1)
        deviation = np.abs(scores - np.linspace(scores[0], scores[-1], 1001)).max()
        printed = interpolation_bound(128, 10000.0)
        assert deviation == pytest.approx(0.4596, abs=1e-4)
        assert printed == pytest.approx(0.4343, abs=1e-4)
        assert printed < deviation < curvature_bound(LLAMA2.frequencies) < 1.2 * printed
