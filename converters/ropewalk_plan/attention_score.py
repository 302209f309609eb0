"""The attention score of identical tokens against their distance, and PI's bounds on it.

The score of a query at position m and an equal key at position 0 is what the rotation alone gives near and
far tokens (Long-context Extrapolation via Periodic Extension, Appendix A.1, from Eq. 3). With q = k = 1 in
every dimension each pair adds the cosine of its angle; the constant 2 that all pairs share is left out, so
that a plain model scores its number of pairs at distance 0:

    score(m) = logn(m) A^2 sum_i cos(p_i(m) theta_i / f_i)

with the attention factor A (on q and on k), the frequency factors f_i, the position map p_i, and LogN on q.
Windows, sinks and streaming are of no concern here: they decide which keys a layer looks at, not the score.
"""

from __future__ import annotations

from enum import Enum

import numpy as np

from ropewalk_plan.plan import ContextPlan
from ropewalk_plan.rope_spec import FloatArray, RopeSpec
from ropewalk_plan.rotation_in_force import (
    IntArray,
    attention_factor_in_force,
    frequencies_in_force,
    mapped_positions,
)

_BAND_SHARE = 36 / 128  # Appendix A.1.3 takes 36 of LLaMA-2's 128 dimensions


class Band(Enum):
    """The pairs that a score sums over (Extra-PE's paper, Appendix A.1.3)."""

    ALL = "all frequencies"
    HIGH = "high frequencies"  # the first 36 of 128 dimensions, the same share of other models'
    LOW = "low frequencies"  # the last 36 of 128


def band_pairs(n_pairs: int, band: Band) -> range:
    """The pairs of a band; at least one."""
    n_banded = max(1, round(n_pairs * _BAND_SHARE))
    if band is Band.HIGH:
        return range(n_banded)
    if band is Band.LOW:
        return range(n_pairs - n_banded, n_pairs)
    return range(n_pairs)


def attention_scores(
    plan: ContextPlan, spec: RopeSpec, distances: IntArray, band: Band = Band.ALL
) -> FloatArray:
    """score(m) of identical tokens at `distances` from position 0 under a plan (see the module's formula).

    Args:
        plan: what is in force at its target length is used.
        spec: the model that the plan was made for.
        distances: m in tokens, 0 or more, any shape.
        band: the pairs to sum over.

    Returns:
        Scores, the shape of `distances`; `spec.n_pairs` at distance 0 for a plain model and `Band.ALL`.
    """
    frequencies = frequencies_in_force(plan, spec)
    mapped = mapped_positions(plan.position_map, distances)
    scores = np.zeros(distances.shape, dtype=np.float64)
    for pair in band_pairs(spec.n_pairs, band):
        positions = mapped if pair >= plan.position_map.first_pair else distances
        scores += np.cos(positions * frequencies[pair])
    return scores * attention_factor_in_force(plan, spec) ** 2 * _logn(plan.logn_length, distances)


def _logn(logn_length: int, positions: IntArray) -> FloatArray:
    """LogN's multiplier on q at each position: `max(1, log_L(m + 1))`."""
    if logn_length == 0:
        return np.ones(positions.shape, dtype=np.float64)
    logarithms: FloatArray = np.log(positions + 1.0) / np.log(logn_length)
    return np.maximum(1.0, logarithms)


def extrapolation_bound(frequencies: FloatArray, distances: IntArray) -> FloatArray:
    """The bound of extrapolation: `2 max|h_j| B(s)`, here with h_j = 1 as in the scores above.

    RoFormer's bound as Position Interpolation states it (Chen et al. 2023, Section 2.3, Eq. 8):
    `B(s) = sum_{k=1}^{d/2} |A_k(s)|`, `A_k(s) = sum_{j<k} exp(i s theta_j)`. The paper finds B(s) to be above
    d, by numbers; that holds for LLaMA and s up to 4096, and no longer at 8192.

    Args:
        frequencies: theta_j in radians per token, shape [n_pairs].
        distances: s in tokens, shape [n].

    Returns:
        The bound, shape [n].
    """
    bound = np.zeros(distances.shape, dtype=np.float64)
    partial = np.zeros(distances.shape, dtype=np.complex128)
    for theta in frequencies:
        partial += np.exp(1j * theta * distances)
        bound += np.abs(partial)
    return 2.0 * bound


def interpolation_bound(n_rot: int, base: float) -> float:
    """Position Interpolation's bound, as its paper prints it: `d max|h_j| / (32 ln c)`, with h_j = 1.

    How far the score at a position between two neighbouring trained ones can be from the straight line
    between their scores (Chen et al. 2023, Theorem 2.1, `d (s - s1)(s2 - s) max|h_j| / (8 ln c)`, at the
    middle of s2 - s1 = 1). d / 294.73 for c = 10000.

    The paper's proof takes `sum_j c^(-4j/d) <= d / (4 ln c)`, which fails by a little (it is a slip: `c^x` is
    at least, not at most, `1 + x ln c`), so that identical tokens less than a token apart exceed this
    by 6% on LLaMA: 0.460 against 0.434. `curvature_bound` is the same bound with the sum itself.

    Args:
        n_rot: d.
        base: c.
    """
    return float(n_rot / (32.0 * np.log(base)))


def curvature_bound(frequencies: FloatArray) -> float:
    """Theorem 2.1 before its last step: `max|h_j| sum_j theta_j^2 / 8`, with h_j = 1; for any frequencies.

    It follows from the score's second derivative, which is at most `sum_j theta_j^2`.
    """
    return float(np.sum(frequencies**2) / 8.0)
