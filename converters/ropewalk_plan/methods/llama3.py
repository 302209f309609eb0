"""Llama 3's scaling: slow pairs interpolated by a fixed factor, fast ones left alone, a blend between.

Symbols: F = `factor`; r_i the turns of pair i over `original_length`; f_i (no unit, shape [n_rot/2]) divides
theta_i and rises with i from 1 to F: `1/f_i = (1 - m_i)/F + m_i`, m_i rising linearly in r_i from 0 at
`low_freq_factor` turns to 1 at `high_freq_factor`. No paper has the equations; they are in Meta's published
code and in transformers (`llama3`); the report (Grattafiori et al. 2024) tells of the training around them.
F is not L'/L: Llama 3.1 reached 16 times its 8192 tokens with 8.
"""

from __future__ import annotations

from collections.abc import Mapping

from ropewalk_plan.llama3_formula import llama3_factors
from ropewalk_plan.methods.method import Aspect, Extension, MethodInfo, PlanPart
from ropewalk_plan.methods.options import (
    WHOLE_MAX,
    OptionValue,
    as_optional_number,
    is_whole,
    optional_number,
)
from ropewalk_plan.plan import PlanError
from ropewalk_plan.rope_spec import OwnScaling

_FACTOR, _LOW, _HIGH = 8.0, 1.0, 4.0
_KIND = "llama3"


def build_llama3(extension: Extension, options: Mapping[str, OptionValue]) -> PlanPart:
    """Llama 3's formula on the model's effective frequencies; where L' is L the model stays as it is.

    Options that are not given come from the checkpoint's config, else from Llama 3.1. On a model that has
    this scaling in it already, turns are counted over L, not over the length before that scaling.

    Raises:
        PlanError: `high_freq_factor` is not above `low_freq_factor`.
    """
    if not extension.extends:
        return PlanPart(schedule=extension.unchanged())
    spec = extension.spec
    own = (
        spec.own_scaling
        if spec.own_scaling is not None and spec.own_scaling.kind == _KIND
        else OwnScaling("")
    )
    factor = _first(as_optional_number(options, "factor"), own.factor, _FACTOR)
    low = _first(as_optional_number(options, "low_freq_factor"), own.low_freq_factor, _LOW)
    high = _first(as_optional_number(options, "high_freq_factor"), own.high_freq_factor, _HIGH)
    if high <= low:
        raise PlanError(
            f"option high_freq_factor is {high:g}; it must be above low_freq_factor, which is {low:g}"
        )
    counted_over = own.original_length if spec.is_plain else None
    length = _first(as_optional_number(options, "original_length"), counted_over, extension.train_length)
    return PlanPart(
        schedule=extension.static(llama3_factors(spec.frequencies, factor, int(length), low, high))
    )


def _first(given: float | None, own: float | None, otherwise: float) -> float:
    """What is given, else the checkpoint's, else `otherwise`."""
    return next(value for value in (given, own, otherwise) if value is not None)


LLAMA3 = MethodInfo(
    name="llama3",
    summary="divides slow pairs by a fixed factor, leaves fast ones, and blends between, as Llama 3.1 does",
    source="Meta's published code for Llama 3.1; transformers' llama3",
    sets=frozenset({Aspect.FREQUENCIES}),
    build=build_llama3,
    options=(
        optional_number(
            "factor",
            "auto",
            "auto (the checkpoint's, else 8) or a number of at least 1",
            "Llama 3.1",
            lambda value: value >= 1,
        ),
        optional_number(
            "low_freq_factor",
            "auto",
            "auto (the checkpoint's, else 1) or a number of turns above 0",
            "Llama 3.1",
            lambda value: value > 0,
        ),
        optional_number(
            "high_freq_factor",
            "auto",
            "auto (the checkpoint's, else 4) or a number of turns above low_freq_factor",
            "Llama 3.1",
            lambda value: value > 0,
        ),
        optional_number(
            "original_length",
            "auto",
            f"auto (the checkpoint's where it is not in force yet, else L) or tokens from 1 to {WHOLE_MAX}",
            "transformers: original_max_position_embeddings",
            lambda value: value >= 1 and is_whole(value),
        ),
    ),
    untuned_scale=1.0,
    tuning="Llama 3.1 was trained on with it; untuned, yarn or ntk-by-parts follow the scale",
)
