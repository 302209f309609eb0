"""Position Interpolation and NTK-aware scaling: one closed form for all pairs.

Symbols: s = L'/L, i the pair from 0, d = n_rot; f_i divides theta_i. Factors multiply the model's own,
so a model that scales already is extended from what it is.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ropewalk_plan.methods.method import Aspect, Extension, MethodInfo, OptionValue, PlanPart
from ropewalk_plan.plan import PlanError


def build_pi(extension: Extension, options: Mapping[str, OptionValue]) -> PlanPart:
    """Position Interpolation (Chen et al. 2023, Eq. 4, `f'(x, m) = f(x, m L/L')`): f_i = s."""
    del options
    return PlanPart(schedule=extension.static(np.full(extension.spec.n_pairs, extension.scale)))


def build_ntk(extension: Extension, options: Mapping[str, OptionValue]) -> PlanPart:
    """NTK-aware scaling (bloc97 2023): `base' = base s^(d/(d-2))`, so f_i = s^(2i/(d-2)).

    The first pair is not touched and the last is interpolated by exactly s.

    Raises:
        PlanError: a model with a single pair, for which the exponent is undefined.
    """
    del options
    d = extension.spec.n_rot
    if d <= 2:
        raise PlanError(f"n_rot is {d}; ntk needs at least 4 rotated dimensions")
    pairs = np.arange(extension.spec.n_pairs, dtype=np.float64)
    return PlanPart(schedule=extension.static(np.power(extension.scale, 2.0 * pairs / (d - 2))))


PI = MethodInfo(
    name="pi",
    summary="interpolates every position by the same factor",
    source="Position Interpolation, Chen et al. 2023, Eq. 4",
    sets=frozenset({Aspect.FREQUENCIES}),
    build=build_pi,
    untuned_scale=2.0,
    tuning="its paper fine-tunes for 200 to 1000 steps, without which quality falls quickly with the scale",
)

NTK = MethodInfo(
    name="ntk",
    summary="raises the rotary base, so that fast pairs hardly change and the slowest is interpolated",
    source="NTK-aware scaled RoPE, bloc97 2023",
    sets=frozenset({Aspect.FREQUENCIES}),
    build=build_ntk,
)
