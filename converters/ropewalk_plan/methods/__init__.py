"""The methods of the literature, one module per family, and the registry of them all."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ropewalk_plan.methods.dprope import DPROPE
from ropewalk_plan.methods.logn import LOGN
from ropewalk_plan.methods.method import Aspect, Extension, MethodInfo, OptionInfo, OptionValue, PlanPart
from ropewalk_plan.methods.periodic import EXTRA_MPE, EXTRA_PE
from ropewalk_plan.methods.plain import NONE
from ropewalk_plan.methods.uniform import NTK, PI
from ropewalk_plan.methods.yarn import YARN

METHODS: Mapping[str, MethodInfo] = MappingProxyType(
    {info.name: info for info in (NONE, PI, NTK, YARN, DPROPE, EXTRA_PE, EXTRA_MPE, LOGN)}
)
"""Every method by name; composed names are spelled in this order."""

__all__ = [
    "METHODS",
    "Aspect",
    "Extension",
    "MethodInfo",
    "OptionInfo",
    "OptionValue",
    "PlanPart",
]
