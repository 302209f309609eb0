"""YaRN: between interpolation and extrapolation by the turns a pair makes, with an attention factor.

Symbols: r_i = L theta_i / 2 pi, the turns of pair i over L; alpha = `beta_slow`, beta = `beta_fast`.
Where our reading departs from the text: the paper ramps linearly in r_i (its Eq. 13), its published code,
transformers and llama.cpp in the pair index, between the floor and the ceiling of the two pairs at
which r = beta and r = alpha. We do as the code does.
"""

from __future__ import annotations

from collections.abc import Mapping

from ropewalk_plan.methods.method import (
    Aspect,
    Extension,
    MethodInfo,
    OptionValue,
    PlanPart,
    as_number,
    as_optional_number,
    number_option,
    optional_number,
)
from ropewalk_plan.plan import PlanError
from ropewalk_plan.yarn_formula import BETA_FAST, BETA_SLOW, yarn_attention_factor, yarn_factors


def build_yarn(extension: Extension, options: Mapping[str, OptionValue]) -> PlanPart:
    """YaRN (Peng et al. 2023, Section 3.2, Eq. 13, and the factor `0.1 ln s + 1` of Section 3.4).

    At s = 1 nothing changes, a given `attention_factor` excepted.

    Raises:
        PlanError: `beta_fast` is not above `beta_slow`.
    """
    fast, slow = as_number(options, "beta_fast"), as_number(options, "beta_slow")
    if fast <= slow:
        raise PlanError(f"option beta_fast is {fast:g}; it must be above beta_slow, which is {slow:g}")
    attention_factor = as_optional_number(options, "attention_factor")
    if attention_factor is None:
        attention_factor = yarn_attention_factor(extension.scale)
    factors = yarn_factors(
        extension.spec, extension.scale, extension.train_length, beta_fast=fast, beta_slow=slow
    )
    return PlanPart(schedule=extension.static(factors, attention_factor))


YARN = MethodInfo(
    name="yarn",
    summary="interpolates slow pairs, leaves fast ones, ramps between, and sharpens attention",
    source="YaRN, Peng et al. 2023, Section 3; the ramp of its published code",
    sets=frozenset({Aspect.FREQUENCIES}),
    build=build_yarn,
    options=(
        number_option(
            "beta_fast",
            BETA_FAST,
            "a number of turns above beta_slow",
            "Section 3.2 (beta)",
            lambda value: value > 0,
        ),
        number_option(
            "beta_slow",
            BETA_SLOW,
            "a number of turns above 0",
            "Section 3.2 (alpha)",
            lambda value: value > 0,
        ),
        optional_number(
            "attention_factor",
            "auto",
            "auto (0.1 ln s + 1) or a number above 0",
            "Section 3.4",
            lambda value: value > 0,
        ),
    ),
)
