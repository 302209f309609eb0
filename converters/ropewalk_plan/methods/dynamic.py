"""Dynamic NTK and dynamic YaRN: the scale follows the length of the sequence.

Symbols: L the train length, L' the target, d = n_rot, `len` the length of the sequence in tokens. Up to L the
model is as it is. Where the papers compute frequencies anew for each length, here they are in force for a
range of lengths (a *step*; shape [steps, d/2]), because cached keys have to be turned anew when they
change: steps are few and grow geometrically, and each has what its own end would have, so that no
sequence is interpolated less than its length asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ropewalk_plan.base_formula import hf_stretch, ntk_factors, qwen_alpha
from ropewalk_plan.methods.method import Aspect, Extension, MethodInfo, PlanPart
from ropewalk_plan.methods.options import (
    OptionValue,
    as_number,
    as_optional_number,
    choice_option,
    number_option,
    optional_number,
)
from ropewalk_plan.methods.yarn import MSCALE_OPTIONS, RAMP_OPTIONS, mscale_of, ramp_of
from ropewalk_plan.plan import PlanError
from ropewalk_plan.rope_spec import FloatArray

DEFAULT_STEP = 1.25
_STEP_MIN = 1.01
_QWEN_STEP = 2.0
_AUTO, _HF, _QWEN = "auto", "hf", "qwen"


def step_ends(train_length: int, target_length: int, ratio: float) -> tuple[int, ...]:
    """L, and on from there: each `ratio` times the last (rounded down), the last of them L'.

    Args:
        train_length: L.
        target_length: L'.
        ratio: above 1.
    """
    ends = [train_length]
    while ends[-1] < target_length:
        ends.append(min(target_length, max(ends[-1] + 1, int(ends[-1] * ratio))))
    return tuple(ends)


def build_dynamic_ntk(extension: Extension, options: Mapping[str, OptionValue]) -> PlanPart:
    """Dynamic NTK (emozilla 2023; YaRN's Section 3.3): the base is raised as the sequence grows.

    `form=hf`, as transformers computes it: `base' = base (factor len/L - (factor-1))^(d/(d-2))` for
    len > L, where `factor` is the config's own number and not L'/L. `form=qwen`, as Qwen's modelling code
    does: `alpha = max(1, 2^ceil(log2(len/L) + 1) - 1)`, `base' = base alpha^(d/(d-2))`: 3 up to 2L, 7 up to
    4L; its steps are the powers of two. (Qwen's paper only says "by chunks"; the rule is in its code,
    which fixes alpha when it reads the prompt.) Either is f_i = a^(2i/(d-2)), rising with i.

    Raises:
        PlanError: a model with a single pair; `factor` or `step` with Qwen's form, which has neither.
    """
    form, factor = _form_and_factor(extension, options)
    step = as_number(options, "step")
    if form == _QWEN:
        _refuse_hf_options(options, step)
        step = _QWEN_STEP

        def stretch(length: int) -> float:
            return qwen_alpha(length, extension.train_length)
    else:

        def stretch(length: int) -> float:
            return hf_stretch(length, extension.train_length, factor)

    n_rot = extension.spec.n_rot
    return _scheduled(extension, step, lambda length: (ntk_factors(n_rot, stretch(length)), 1.0))


def build_dynamic_yarn(extension: Extension, options: Mapping[str, OptionValue]) -> PlanPart:
    """Dynamic YaRN (Peng et al. 2023, Section 3.3 on Definition 3): YaRN at the scale len/L, 1 up to L.

    Frequencies and the attention factor both follow; `ropewalk_plan.methods.yarn` has the formulas.
    """
    ramp = ramp_of(options)

    def at(length: int) -> tuple[FloatArray, float]:
        scale = length / extension.train_length
        return ramp.factors(extension, scale), mscale_of(options, scale)

    return _scheduled(extension, as_number(options, "step"), at)


def _scheduled(extension: Extension, ratio: float, at: Callable[[int], tuple[FloatArray, float]]) -> PlanPart:
    """Steps from L to L', each with what `at` says of its end."""
    ends = step_ends(extension.train_length, extension.target_length, ratio)
    return PlanPart(schedule=tuple(extension.step(end, *at(end)) for end in ends))


def _form_and_factor(extension: Extension, options: Mapping[str, OptionValue]) -> tuple[str, float]:
    """The form and the factor: as given, else the checkpoint's, else transformers' with a factor of 1."""
    own = extension.spec.own_scaling
    form, factor = str(options["form"]), as_optional_number(options, "factor")
    if form == _AUTO:
        form = _QWEN if own is not None and own.kind == "qwen-dynamic" else _HF
    if factor is None:
        factor = own.factor if own is not None and own.kind == "dynamic" else None
    return form, 1.0 if factor is None else factor


def _refuse_hf_options(options: Mapping[str, OptionValue], step: float) -> None:
    if options["factor"] is not None:
        raise PlanError(f"option factor is {options['factor']}; with form=qwen there is none, leave it out")
    if step != DEFAULT_STEP:
        raise PlanError(
            f"option step is {step:g}; with form=qwen the steps are the powers of two, leave it out"
        )


_STEP_OPTION = number_option(
    "step",
    DEFAULT_STEP,
    f"a number of at least {_STEP_MIN:g}: the length of a step over that of the one before",
    "ours; each step rewrites the cached keys once",
    lambda value: _STEP_MIN <= value <= 2**32,
)

DYNAMIC_NTK = MethodInfo(
    name="dynamic-ntk",
    summary="raises the rotary base as the text grows, and leaves the model as it is up to the train length",
    source="Dynamic NTK, emozilla 2023; YaRN, Section 3.3; transformers; Qwen's modelling code",
    sets=frozenset({Aspect.FREQUENCIES, Aspect.GROWTH}),
    build=build_dynamic_ntk,
    options=(
        choice_option(
            "form", _AUTO, (_AUTO, _HF, _QWEN), "auto is the checkpoint's, else hf, transformers' form"
        ),
        optional_number(
            "factor",
            "auto",
            "auto (the checkpoint's, else 1) or a number of at least 1; form=hf only",
            "transformers: the config's own number, not L'/L",
            lambda value: value >= 1,
        ),
        _STEP_OPTION,
    ),
)

DYNAMIC_YARN = MethodInfo(
    name="dynamic-yarn",
    summary="YaRN at the scale that the text has reached, and the model as it is up to the train length",
    source="YaRN, Peng et al. 2023, Section 3.3",
    sets=frozenset({Aspect.FREQUENCIES, Aspect.GROWTH}),
    build=build_dynamic_yarn,
    options=(*RAMP_OPTIONS, *MSCALE_OPTIONS, _STEP_OPTION),
)
