"""LongRoPE's attention factor (Ding et al. 2024, as transformers has it), for method and checkpoints."""

from __future__ import annotations

import math

from ropewalk_plan.plan import PlanError


def longrope_attention_factor(scale: float, original_length: int) -> float:
    """`sqrt(1 + ln s / ln L)`; 1 for a scale of at most 1.

    Args:
        scale: s = L'/L.
        original_length: L, tokens before the extension.

    Raises:
        PlanError: an original length of 1, whose logarithm is 0.
    """
    if scale <= 1.0:
        return 1.0
    if original_length < 2:
        raise PlanError(f"train_length is {original_length}; longrope needs a train length of at least 2")
    return math.sqrt(1.0 + math.log(scale) / math.log(original_length))
