"""LogN attention scaling: queries grow with the logarithm of their position, to keep attention sharp."""

from __future__ import annotations

from collections.abc import Mapping

from ropewalk_plan.methods.method import Aspect, Extension, MethodInfo, PlanPart
from ropewalk_plan.methods.options import OptionValue


def build_logn(extension: Extension, options: Mapping[str, OptionValue]) -> PlanPart:
    """LogN (Su 2023; Qwen's modelling code): q at position m (from 0) times log_L(m + 1) where m + 1 > L.

    With L' = L no position reaches it, and it is off.
    """
    del options
    if not extension.extends:
        return PlanPart()
    return PlanPart(logn_length=extension.train_length)


LOGN = MethodInfo(
    name="logn",
    summary="scales queries beyond the train length by the logarithm of their position",
    source="Su 2023 (log n scaling); Qwen's modelling code",
    sets=frozenset({Aspect.QUERIES}),
    build=build_logn,
)
