"""Another rotary base, chosen by number: raised (ABF, Code Llama) or lowered (Liu et al. 2023).

Symbols: b the model's base, b' the chosen one, d = n_rot, i the pair from 0: `f_i = (b'/b)^(2i/d)` (no unit,
shape [d/2]). Factors multiply the model's own, so a model that scales already is extended from what it is.
Both papers go on training with the new base, and neither makes it depend on the scale.
Where L' is L there is nothing to extend, and the model stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping

from ropewalk_plan.base_formula import base_factors
from ropewalk_plan.methods.method import Aspect, Extension, MethodInfo, PlanPart
from ropewalk_plan.methods.options import OptionValue, as_number, number_option
from ropewalk_plan.plan import PlanError, ScheduleStep

CODE_LLAMA_BASE = 1e6
SMALL_BASE = 500.0
_BASE_MAX = 1e30


def build_abf(extension: Extension, options: Mapping[str, OptionValue]) -> PlanPart:
    """Adjusted base frequency (Xiong et al. 2023, Section 2; Code Llama, Roziere et al. 2023, 2.4).

    `theta_i = b'^(-2i/d)` with b' = 500,000 in the former, 1,000,000 in the latter; factors rise with i.

    Raises:
        PlanError: a base that is not above the model's own.
    """
    base = as_number(options, "base")
    if not extension.extends:
        return PlanPart(schedule=extension.unchanged())
    if base <= extension.spec.base:
        raise PlanError(
            f"option base is {base:.10g}; abf raises the base, so it must be above the model's own, "
            f"which is {extension.spec.base:.10g}"
        )
    return PlanPart(schedule=_with_base(extension, base))


def build_small_base(extension: Extension, options: Mapping[str, OptionValue]) -> PlanPart:
    """A smaller base (Liu et al. 2023, "Scaling Laws of RoPE-based Extrapolation", the law of smaller bases).

    `theta_i = b'^(-2i/d)` with b' < b. Below 2L/pi, L/pi and L/2pi every pair sees a quarter turn, a half and
    a whole one within L, after which no angle is new and the model extrapolates. Factors fall with i from 1:
    pairs turn faster.

    Raises:
        PlanError: a base that is not below the model's own.
    """
    base = as_number(options, "base")
    if not extension.extends:
        return PlanPart(schedule=extension.unchanged())
    if base >= extension.spec.base:
        raise PlanError(
            f"option base is {base:.10g}; small-base lowers the base, so it must be below the model's own, "
            f"which is {extension.spec.base:.10g}"
        )
    return PlanPart(schedule=_with_base(extension, base))


def _with_base(extension: Extension, base: float) -> tuple[ScheduleStep, ...]:
    spec = extension.spec
    return extension.static(base_factors(spec.n_rot, base / spec.base))


ABF = MethodInfo(
    name="abf",
    summary="raises the rotary base to a fixed number, as Code Llama does before it trains on",
    source="ABF, Xiong et al. 2023, Section 2; Code Llama, Roziere et al. 2023, Section 2.4",
    sets=frozenset({Aspect.FREQUENCIES}),
    build=build_abf,
    options=(
        number_option(
            "base",
            CODE_LLAMA_BASE,
            "a number above the model's own base, at most 1e30",
            "Code Llama's; Xiong et al. use 500000",
            lambda value: 1 < value <= _BASE_MAX,
        ),
    ),
    untuned_scale=1.0,
    tuning="both papers train on with the raised base; untuned, ntk fits the base to the scale",
)

SMALL_BASE_METHOD = MethodInfo(
    name="small-base",
    summary="lowers the rotary base, so that every pair sees whole turns within the train length",
    source="Scaling Laws of RoPE-based Extrapolation, Liu et al. 2023, the law of smaller bases",
    sets=frozenset({Aspect.FREQUENCIES}),
    build=build_small_base,
    options=(
        number_option(
            "base",
            SMALL_BASE,
            "a number above 1 and below the model's own base",
            "its LLaMA-2 fine-tuned at 4096 tokens",
            lambda value: 1 < value <= _BASE_MAX,
        ),
    ),
    untuned_scale=1.0,
    tuning="its paper fine-tunes at the train length with the smaller base; untuned, the model breaks",
)
