"""No extension: the model as it is."""

from __future__ import annotations

from collections.abc import Mapping

from ropewalk_plan.methods.method import Aspect, Extension, MethodInfo, PlanPart
from ropewalk_plan.methods.options import OptionValue


def build_none(extension: Extension, options: Mapping[str, OptionValue]) -> PlanPart:
    """Direct extrapolation: positions beyond L simply go on."""
    del extension, options
    return PlanPart()


NONE = MethodInfo(
    name="none",
    summary="the plain model: positions beyond the train length simply go on (direct extrapolation)",
    source="the baseline of every paper",
    sets=frozenset(Aspect),
    build=build_none,
)
