"""Formulas that change the rotary base (NTK-aware scaling and its dynamic forms, ABF), as frequency factors.

Symbols: d = n_rot, i the pair from 0, L the train length. A base times x means `f_i = x^(2i/d)`. NTK-aware
scaling (bloc97 2023) chooses `x = a^(d/(d-2))`, so that the slowest pair is divided by the stretch a exactly.
"""

from __future__ import annotations

import numpy as np

from ropewalk_plan.plan import PlanError
from ropewalk_plan.rope_spec import FloatArray


def base_factors(n_rot: int, ratio: float) -> FloatArray:
    """`f_i = ratio^(2i/d)`: the frequencies of a base `ratio` times as large, shape [n_rot/2]."""
    return np.power(ratio, 2.0 * np.arange(n_rot // 2, dtype=np.float64) / n_rot)


def ntk_factors(n_rot: int, stretch: float) -> FloatArray:
    """`f_i = a^(2i/(d-2))`: those of the base times `a^(d/(d-2))`, shape [n_rot/2].

    Args:
        n_rot: d.
        stretch: a, by which the slowest pair is interpolated.

    Raises:
        PlanError: a model with a single pair, for which the exponent is undefined.
    """
    if n_rot <= 2:
        raise PlanError(
            f"n_rot is {n_rot}; NTK-aware scaling of the base needs at least 4 rotated dimensions"
        )
    return np.power(stretch, 2.0 * np.arange(n_rot // 2, dtype=np.float64) / (n_rot - 2))


def hf_stretch(length: int, train_length: int, factor: float) -> float:
    """Dynamic NTK's stretch as transformers computes it: `a = factor len/L - (factor - 1)`, 1 up to L.

    Written as `1 + factor (len - L)/L`, which is exactly 1 at L.

    Args:
        length: tokens of the sequence.
        train_length: L.
        factor: the config's own number (not L'/L): 1 makes `a = len/L`, more interpolates further than that.
    """
    return 1.0 + factor * max(0, length - train_length) / train_length


def qwen_alpha(length: int, train_length: int) -> float:
    """Dynamic NTK's stretch as Qwen's modelling code computes it.

    `alpha = max(1, 2^ceil(log2(len/L) + 1) - 1)`: 1 up to L, 3 up to 2L, 7 up to 4L. In whole numbers,
    because a rounded logarithm would take a length just past a power of two for the power itself.

    Args:
        length: tokens of the sequence.
        train_length: L.
    """
    doubled = 1
    while doubled * train_length < length:
        doubled *= 2
    return float(2 * doubled - 1)
