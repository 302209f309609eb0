"""What a checkpoint multiplies attention scores by, whatever the positions: DeepSeek's `mscale_all_dim`."""

from __future__ import annotations

from ropewalk_plan.config_values import ConfigValues
from ropewalk_plan.yarn_formula import yarn_attention_factor


def score_factor_of(parameters: ConfigValues) -> float:
    """What whole queries and whole keys are multiplied by besides their rotation, were it latent attention.

    There, where only a part of each head rotates, a scaling's attention factor is for that part, and
    `0.1 mscale_all_dim ln s + 1` for all of it, as in DeepSeek-V2's own code and its kin in transformers.
    Whether a checkpoint is of that kind is told by the file made of it: not every `model_type` is known here.

    Args:
        parameters: the config's `rope_parameters` or `rope_scaling`, of a scaling.

    Raises:
        PlanError: a value that is no number.
    """
    scale, weight = parameters.number("factor", above=0), parameters.number("mscale_all_dim")
    return yarn_attention_factor(scale, weight) if scale and weight else 1.0
