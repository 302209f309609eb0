"""YaRN's formulas (Peng et al. 2023), shared by the method and by files that scale already."""

from __future__ import annotations

import math

import numpy as np

from ropewalk_plan.rope_spec import FloatArray, RopeSpec

BETA_FAST = 32.0
BETA_SLOW = 1.0
"""Turns over L between which YaRN ramps: the paper's beta and alpha for LLaMA, llama.cpp's defaults."""


def yarn_factors(
    spec: RopeSpec,
    scale: float,
    original_length: int,
    *,
    beta_fast: float = BETA_FAST,
    beta_slow: float = BETA_SLOW,
    truncate: bool = True,
    mix: float = 1.0,
) -> FloatArray:
    """YaRN's frequency factors, relative to `spec`'s own frequencies, shape [n_pairs].

    `1/f_i = (1 - m_i)/s + m_i` with m_i = 1 (extrapolate) up to the pair where `original_length` tokens
    make `beta_fast` turns, 0 (interpolate) from the one where they make `beta_slow`, linear in the
    pair index between, the two pairs rounded outwards (floor, ceil). Where the pairs lie so that nothing
    is left between them, it is a step at the first of them, as in llama.cpp.

    Args:
        spec: the model.
        scale: s.
        original_length: tokens over which turns are counted.
        beta_fast: turns above which a pair extrapolates.
        beta_slow: turns below which a pair interpolates.
        truncate: round the two pairs; gpt-oss does not.
        mix: weight of the extrapolated part (llama.cpp's `ext_factor`).
    """
    first = spec.pair_at_rotations(original_length, beta_fast)
    last = spec.pair_at_rotations(original_length, beta_slow)
    if truncate:
        first, last = math.floor(first), math.ceil(last)
    low, high = max(0.0, first), min(spec.n_rot - 1.0, last)
    ramp = (np.arange(spec.n_pairs, dtype=np.float64) - low) / max(0.001, high - low)
    extrapolated = (1.0 - np.clip(ramp, 0.0, 1.0)) * mix
    return 1.0 / ((1.0 - extrapolated) / scale + extrapolated)


def yarn_attention_factor(scale: float, weight: float = 1.0) -> float:
    """YaRN's attention factor, `0.1 weight ln s + 1`; 1 for a scale of at most 1."""
    return 1.0 if scale <= 1.0 else 0.1 * weight * math.log(scale) + 1.0


def yarn_mscale(scale: float, mscale: float | None = None, mscale_all_dim: float | None = None) -> float:
    """YaRN's attention factor as transformers computes it from a config.

    `(0.1 mscale ln s + 1) / (0.1 mscale_all_dim ln s + 1)` where both are given and not 0, else
    `0.1 ln s + 1`:
    either of them alone does nothing.

    Args:
        scale: s.
        mscale: the config's number, None where it has none.
        mscale_all_dim: likewise.
    """
    if not mscale or not mscale_all_dim:
        return yarn_attention_factor(scale)
    return yarn_attention_factor(scale, mscale) / yarn_attention_factor(scale, mscale_all_dim)
