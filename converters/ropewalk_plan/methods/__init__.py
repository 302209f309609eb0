"""The methods of the literature, one module per family, and the registry of them all."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ropewalk_plan.methods.base import ABF, SMALL_BASE_METHOD
from ropewalk_plan.methods.combinations import COMBINATIONS, Combination
from ropewalk_plan.methods.dprope import DPROPE
from ropewalk_plan.methods.dynamic import DYNAMIC_NTK, DYNAMIC_YARN
from ropewalk_plan.methods.llama3 import LLAMA3
from ropewalk_plan.methods.logn import LOGN
from ropewalk_plan.methods.longrope import LONGROPE
from ropewalk_plan.methods.method import Aspect, Extension, MethodInfo, PlanPart
from ropewalk_plan.methods.options import OptionInfo, OptionValue
from ropewalk_plan.methods.periodic import EXTRA_MPE, EXTRA_PE
from ropewalk_plan.methods.plain import NONE
from ropewalk_plan.methods.uniform import NTK, PI
from ropewalk_plan.methods.windows import STREAMING, WINDOWS
from ropewalk_plan.methods.yarn import NTK_BY_PARTS, YARN

_INFOS = (
    NONE,
    PI,
    NTK,
    NTK_BY_PARTS,
    YARN,
    DPROPE,
    EXTRA_PE,
    EXTRA_MPE,
    ABF,
    SMALL_BASE_METHOD,
    DYNAMIC_NTK,
    DYNAMIC_YARN,
    LLAMA3,
    LONGROPE,
    LOGN,
    WINDOWS,
    STREAMING,
)

METHODS: Mapping[str, MethodInfo] = MappingProxyType({info.name: info for info in _INFOS})
"""Every method by name; composed names are spelled in this order."""

__all__ = [
    "COMBINATIONS",
    "METHODS",
    "Aspect",
    "Combination",
    "Extension",
    "MethodInfo",
    "OptionInfo",
    "OptionValue",
    "PlanPart",
]
