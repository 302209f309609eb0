"""YaRN and its interpolation alone (NTK-by-parts): between interpolation and extrapolation by a pair's turns.

Symbols: s = L'/L; r_i = L theta_i / 2 pi, the turns of pair i over L; alpha = `beta_slow`, beta = `beta_fast`
(turns); f_i (no unit, shape [n_rot/2]) divides theta_i and rises with i from 1 to s.
Where our reading departs from the text: the paper ramps linearly in r_i (`gamma` in
Section 3.2), its published code, transformers and llama.cpp in the pair index, between the floor and the
ceiling of the two pairs at which r = beta and r = alpha. We do as the code does. (Its equations are cited by
section and definition, because their numbers differ between its versions.) On a model that scales already
turns are those of its effective frequencies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ropewalk_plan.methods.method import Aspect, Extension, MethodInfo, PlanPart
from ropewalk_plan.methods.options import (
    OptionInfo,
    OptionValue,
    as_number,
    as_optional_number,
    choice_option,
    number_option,
    optional_number,
)
from ropewalk_plan.plan import PlanError
from ropewalk_plan.rope_spec import FloatArray
from ropewalk_plan.yarn_formula import BETA_FAST, BETA_SLOW, yarn_factors, yarn_mscale


@dataclass(frozen=True)
class Ramp:
    """Where YaRN ramps.

    Attributes:
        beta_fast: turns over L above which a pair extrapolates.
        beta_slow: turns below which a pair interpolates.
        truncate: round the pairs of these turns outwards.
    """

    beta_fast: float = BETA_FAST
    beta_slow: float = BETA_SLOW
    truncate: bool = True

    def factors(self, extension: Extension, scale: float) -> FloatArray:
        """f_i at `scale`, relative to the model's own frequencies, shape [n_pairs]."""
        return yarn_factors(
            extension.spec,
            scale,
            extension.train_length,
            beta_fast=self.beta_fast,
            beta_slow=self.beta_slow,
            truncate=self.truncate,
        )


def ramp_of(options: Mapping[str, OptionValue]) -> Ramp:
    """The ramp that `RAMP_OPTIONS` say.

    Raises:
        PlanError: `beta_fast` is not above `beta_slow`.
    """
    fast, slow = as_number(options, "beta_fast"), as_number(options, "beta_slow")
    if fast <= slow:
        raise PlanError(f"option beta_fast is {fast:g}; it must be above beta_slow, which is {slow:g}")
    return Ramp(fast, slow, truncate=options["truncate"] == "true")


def mscale_of(options: Mapping[str, OptionValue], scale: float) -> float:
    """YaRN's attention factor at `scale` as `MSCALE_OPTIONS` say."""
    return yarn_mscale(
        scale, as_optional_number(options, "mscale"), as_optional_number(options, "mscale_all_dim")
    )


def build_ntk_by_parts(extension: Extension, options: Mapping[str, OptionValue]) -> PlanPart:
    """NTK-by-parts (bloc97 2023; YaRN's Section 3.2, Definition 2): YaRN without the attention factor."""
    return PlanPart(schedule=extension.static(ramp_of(options).factors(extension, extension.scale)))


def build_yarn(extension: Extension, options: Mapping[str, OptionValue]) -> PlanPart:
    """YaRN (Peng et al. 2023, Definition 3): NTK-by-parts and the factor `0.1 ln s + 1`.

    Section 3.4 scales the attention's temperature, `sqrt(1/t) = 0.1 ln s + 1`; as in its code the root goes
    on rotated q and on rotated k. `mscale` and `mscale_all_dim` are DeepSeek's, as transformers reads them:
    `(0.1 mscale ln s + 1) / (0.1 mscale_all_dim ln s + 1)` where both are given. At s = 1 nothing changes,
    a given `attention_factor` excepted.
    """
    attention_factor = as_optional_number(options, "attention_factor")
    if attention_factor is None:
        attention_factor = mscale_of(options, extension.scale)
    factors = ramp_of(options).factors(extension, extension.scale)
    return PlanPart(schedule=extension.static(factors, attention_factor))


RAMP_OPTIONS: tuple[OptionInfo, ...] = (
    number_option(
        "beta_fast",
        BETA_FAST,
        "a number of turns above beta_slow",
        "YaRN, Section 3.2 (beta)",
        lambda value: value > 0,
    ),
    number_option(
        "beta_slow",
        BETA_SLOW,
        "a number of turns above 0",
        "YaRN, Section 3.2 (alpha)",
        lambda value: value > 0,
    ),
    choice_option("truncate", "true", ("true", "false"), "its published code rounds the pairs; gpt-oss not"),
)

MSCALE_OPTIONS: tuple[OptionInfo, ...] = (
    optional_number(
        "mscale",
        "off",
        "off, or a number of at least 0 (in force with mscale_all_dim only)",
        "DeepSeek-V2; transformers",
        lambda value: value >= 0,
    ),
    optional_number(
        "mscale_all_dim",
        "off",
        "off, or a number of at least 0 (in force with mscale only)",
        "DeepSeek-V2; transformers",
        lambda value: value >= 0,
    ),
)

NTK_BY_PARTS = MethodInfo(
    name="ntk-by-parts",
    summary="interpolates slow pairs, leaves fast ones, and ramps between",
    source="NTK-by-parts, bloc97 2023; YaRN, Peng et al. 2023, Section 3.2; the ramp of its published code",
    sets=frozenset({Aspect.FREQUENCIES}),
    build=build_ntk_by_parts,
    options=RAMP_OPTIONS,
)

YARN = MethodInfo(
    name="yarn",
    summary="interpolates slow pairs, leaves fast ones, ramps between, and sharpens attention",
    source="YaRN, Peng et al. 2023, Section 3; the ramp of its published code",
    sets=frozenset({Aspect.FREQUENCIES}),
    build=build_yarn,
    options=(
        *RAMP_OPTIONS,
        optional_number(
            "attention_factor",
            "auto",
            "auto (0.1 ln s + 1, or by mscale and mscale_all_dim) or a number above 0",
            "Section 3.4",
            lambda value: value > 0,
        ),
        *MSCALE_OPTIONS,
    ),
)
