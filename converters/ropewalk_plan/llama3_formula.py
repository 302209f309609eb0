"""Llama 3's formula (its published code, transformers' `llama3`), for the method and for checkpoints."""

from __future__ import annotations

import numpy as np

from ropewalk_plan.rope_spec import FloatArray


def llama3_factors(
    frequencies: FloatArray,
    scale: float,
    original_length: int,
    low_freq_factor: float,
    high_freq_factor: float,
) -> FloatArray:
    """Frequency factors relative to `frequencies`, shape [n_pairs].

    With r_i the turns of pair i over `original_length`: f_i = 1 above `high_freq_factor` turns, s below
    `low_freq_factor`, and between them `1/f_i = (1 - m)/s + m`, m rising linearly in r_i from 0 to 1.
    Where the two limits are equal, as in a step.

    Args:
        frequencies: theta_i, radians per token.
        scale: s.
        original_length: tokens over which turns are counted.
        low_freq_factor: turns below which a pair is interpolated.
        high_freq_factor: turns above which a pair is left alone.
    """
    turns = original_length * frequencies / (2.0 * np.pi)
    if high_freq_factor == low_freq_factor:
        kept = (turns >= low_freq_factor).astype(np.float64)
    else:
        kept = np.clip((turns - low_freq_factor) / (high_freq_factor - low_freq_factor), 0.0, 1.0)
    return 1.0 / ((1.0 - kept) / scale + kept)
