"""Position Interpolation and NTK-aware scaling: one closed form for all pairs.

Symbols: s = L'/L, i the pair from 0, d = n_rot; f_i (no unit, shape [d/2]) divides theta_i. Factors multiply
the model's own, so a model that scales already is extended from what it is.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ropewalk_plan.base_formula import ntk_factors
from ropewalk_plan.methods.method import Aspect, Extension, MethodInfo, PlanPart
from ropewalk_plan.methods.options import OptionValue


def build_pi(extension: Extension, options: Mapping[str, OptionValue]) -> PlanPart:
    """Position Interpolation (Chen et al. 2023, Eq. 4, `f'(x, m) = f(x, m L/L')`): f_i = s.

    To divide every position or every frequency by s is the same rotation.
    """
    del options
    return PlanPart(schedule=extension.static(np.full(extension.spec.n_pairs, extension.scale)))


def build_ntk(extension: Extension, options: Mapping[str, OptionValue]) -> PlanPart:
    """NTK-aware scaling (bloc97 2023; YaRN's Section 3.1, Definition 1): `base' = base s^(d/(d-2))`.

    So f_i = s^(2i/(d-2)), rising with i: the first pair is not touched and the last is interpolated by
    exactly s.

    Raises:
        PlanError: a model with a single pair, for which the exponent is undefined.
    """
    del options
    return PlanPart(schedule=extension.static(ntk_factors(extension.spec.n_rot, extension.scale)))


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
