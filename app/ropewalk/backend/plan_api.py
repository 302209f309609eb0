"""`llama-context-plan.h` as this version needs it: the struct, and every function with its types."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from llama_cpp import llama_cpp as capi


class ContextPlanParams(ctypes.Structure):
    """`struct llama_context_plan_params`, field for field."""

    _fields_ = (
        ("schema", ctypes.c_uint32),
        ("native", ctypes.c_uint32),
        ("train_length", ctypes.c_uint32),
        ("target_length", ctypes.c_uint32),
        ("n_steps", ctypes.c_uint32),
        ("n_pairs", ctypes.c_uint32),
        ("n_rope_layers", ctypes.c_uint32),
        ("position_kind", ctypes.c_uint32),
        ("position_period", ctypes.c_uint32),
        ("position_first_pair", ctypes.c_uint32),
        ("logn_length", ctypes.c_uint32),
        ("n_windows", ctypes.c_uint32),
        ("n_sinks", ctypes.c_uint32),
        ("streaming", ctypes.c_uint32),
        ("method", ctypes.c_char_p),
        ("options", ctypes.c_char_p),
        ("step_lengths", ctypes.POINTER(ctypes.c_uint32)),
        ("step_factors", ctypes.POINTER(ctypes.c_float)),
        ("step_attention_factors", ctypes.POINTER(ctypes.c_float)),
        ("rope_layers", ctypes.POINTER(ctypes.c_uint32)),
        ("windows", ctypes.POINTER(ctypes.c_uint32)),
    )


_PARAMS = ctypes.POINTER(ContextPlanParams)

SIGNATURES: Mapping[str, tuple[Any, tuple[Any, ...]]] = MappingProxyType(
    {
        "llama_context_plan_build": (ctypes.c_char_p, ()),
        "llama_context_plan_schema": (ctypes.c_uint32, ()),
        "llama_context_plan_last_error": (ctypes.c_char_p, ()),
        "llama_context_plan_reserve": (ctypes.c_int32, (ctypes.c_void_p, ctypes.c_uint32)),
        "llama_context_plan_length": (ctypes.c_uint32, (ctypes.c_void_p,)),
        "llama_context_plan_kv_size": (ctypes.c_int64, (ctypes.c_void_p, capi.llama_context_params)),
        "llama_model_plan_get": (ctypes.c_bool, (ctypes.c_void_p, _PARAMS)),
        "llama_model_plan_set": (ctypes.c_int32, (ctypes.c_void_p, _PARAMS)),
    }
)
"""Result and arguments by name. A library that lacks one of them is older than this version."""
