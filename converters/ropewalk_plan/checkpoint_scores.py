"""What a checkpoint multiplies attention scores by, whatever the positions: DeepSeek's `mscale_all_dim`."""

from __future__ import annotations

from ropewalk_plan import architectures
from ropewalk_plan.config_values import ConfigValues
from ropewalk_plan.yarn_formula import yarn_attention_factor


def score_factor_of(parameters: ConfigValues, kind: str, architecture: str) -> float:
    """What transformers multiplies whole queries and whole keys by besides their rotation; 1 for most.

    In latent attention, where only a part of each head rotates, a scaling's attention factor is for that
    part, and `0.1 mscale_all_dim ln s + 1` for all of it, as in DeepSeek-V2's own code. Read for the families
    that llama.cpp does something of the kind in.

    Args:
        parameters: the config's `rope_parameters` or `rope_scaling`.
        kind: its `rope_type`.
        architecture: GGUF's name of the checkpoint's.

    Raises:
        PlanError: a value that is no number.
    """
    if architecture not in architectures.SCALES_SCORES_TOO or kind in ("default", "mrope"):
        return 1.0
    scale, weight = parameters.number("factor", above=0), parameters.number("mscale_all_dim")
    return yarn_attention_factor(scale, weight) if scale and weight else 1.0
