"""The patched library's context-plan API (`llama-context-plan.h`), typed.

Every function raises `LibraryNotPatchedError` in a stock build, where the C symbols are absent, and in an
older build of the patch, where some are.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any, TypeAlias

from llama_cpp import llama_cpp as capi

from ropewalk.backend.errors import PlanRefusedError
from ropewalk.backend.library import require_patched
from ropewalk.backend.plan_api import SIGNATURES, ContextPlanParams
from ropewalk_plan.plan import SCHEMA, ContextPlan, PositionKind, PositionMap, ScheduleStep

ContextStruct: TypeAlias = Any
"""A `llama_context_params` of llama_cpp, which has no types."""

_POSITION_KINDS = (PositionKind.IDENTITY, PositionKind.PERIODIC, PositionKind.MIRRORED)
"""By their numbers in the C struct."""


def get_plan(model: int) -> tuple[ContextPlan, bool] | None:
    """The plan that a `llama_model *` carries, and whether it is native; None where it has none."""
    params = ContextPlanParams()
    if not _functions()["llama_model_plan_get"](model, ctypes.byref(params)):
        return None
    return from_params(params), bool(params.native)


def set_plan(model: int, plan: ContextPlan | None) -> None:
    """Gives a `llama_model *` a plan, or none; contexts made from now on hold it.

    Raises:
        PlanRefusedError: the library does not execute this plan for this model; it keeps what it had.
    """
    params = None if plan is None else to_params(plan)
    reference = None if params is None else ctypes.byref(params)
    if _functions()["llama_model_plan_set"](model, reference) != 0:
        raise PlanRefusedError(last_error() or "the library refused the plan without a reason")


def last_error() -> str:
    """Why the last load, context or plan was refused on this thread; "" if nothing was."""
    return (_functions()["llama_context_plan_last_error"]() or b"").decode("utf-8", "replace")


def reserve(context: int, n_tokens: int) -> None:
    """Puts the step for `n_tokens` in force on a `llama_context *`, and keeps it from then on; 0 ends that.

    Nothing for a plan without steps.

    Raises:
        PlanRefusedError: quantized keys are there that would have to be turned.
    """
    if _functions()["llama_context_plan_reserve"](context, n_tokens) != 0:
        raise PlanRefusedError(last_error() or "the library refused the reservation without a reason")


def length_in_force(context: int) -> int:
    """The longest sequence that the factors in force on a `llama_context *` are for; 0 without factors."""
    return int(_functions()["llama_context_plan_length"](context))


def kv_size(model: int, params: ContextStruct) -> int | None:
    """Bytes of the keys and values that a context on a `llama_model *` would hold, under its plan or without.

    Args:
        model: the model.
        params: a `llama_context_params`, with which the context would be made.

    Returns:
        None where the library cannot tell: a memory that is not made of keys and values alone.
    """
    size = int(_functions()["llama_context_plan_kv_size"](model, params))
    if size < 0:
        last_error()  # is told here, and must not be taken for that of a later refusal
        return None
    return size


def to_params(plan: ContextPlan) -> ContextPlanParams:
    """The C form of a plan; it owns the arrays it points to.

    Raises:
        PlanRefusedError: the plan concerns no layer at all, which the C form cannot say.
    """
    if plan.rope_layers == ():
        raise PlanRefusedError(
            "the plan names no layer to rotate: name some, or leave the layers out for all"
        )
    factors = [factor for step in plan.schedule for factor in step.frequency_factors]
    return ContextPlanParams(
        schema=SCHEMA,
        native=0,
        train_length=plan.train_length,
        target_length=plan.target_length,
        n_steps=len(plan.schedule),
        n_pairs=plan.n_pairs,
        n_rope_layers=len(plan.rope_layers or ()),
        position_kind=_POSITION_KINDS.index(plan.position_map.kind),
        position_period=plan.position_map.period,
        position_first_pair=plan.position_map.first_pair,
        logn_length=plan.logn_length,
        n_windows=len(plan.windows),
        n_sinks=plan.sinks,
        streaming=int(plan.streaming),
        method=plan.method.encode(),
        options=plan.options.encode(),
        step_lengths=_integers([step.up_to_length for step in plan.schedule]),
        step_factors=_floats(factors),
        step_attention_factors=_floats([step.attention_factor for step in plan.schedule]),
        rope_layers=_integers(plan.rope_layers or ()),
        windows=_integers(plan.windows),
    )


def from_params(params: ContextPlanParams) -> ContextPlan:
    """A plan from its C form; everything is copied.

    Raises:
        PlanError: the numbers do not make a plan.
    """
    n_pairs = params.n_pairs
    steps = tuple(
        ScheduleStep(
            up_to_length=params.step_lengths[i],
            frequency_factors=tuple(params.step_factors[i * n_pairs : (i + 1) * n_pairs]),
            attention_factor=params.step_attention_factors[i],
        )
        for i in range(params.n_steps)
    )
    return ContextPlan(
        method=(params.method or b"").decode("utf-8", "replace"),
        options=(params.options or b"").decode("utf-8", "replace"),
        train_length=params.train_length,
        target_length=params.target_length,
        schedule=steps,
        rope_layers=tuple(params.rope_layers[: params.n_rope_layers]) or None,
        position_map=PositionMap(
            kind=_POSITION_KINDS[params.position_kind],
            period=params.position_period,
            first_pair=params.position_first_pair,
        ),
        logn_length=params.logn_length,
        windows=tuple(params.windows[: params.n_windows]),
        sinks=params.n_sinks,
        streaming=bool(params.streaming),
    )


def _integers(values: Sequence[int]) -> ctypes.Array[ctypes.c_uint32] | None:
    """A C array, or null for nothing."""
    return (ctypes.c_uint32 * len(values))(*values) if values else None


def _floats(values: Sequence[float]) -> ctypes.Array[ctypes.c_float] | None:
    """A C array, or null for nothing."""
    return (ctypes.c_float * len(values))(*values) if values else None


@cache
def _functions() -> dict[str, Any]:
    require_patched("A context plan")
    functions = {name: getattr(capi._lib, name) for name in SIGNATURES}
    for name, (result, arguments) in SIGNATURES.items():
        functions[name].restype, functions[name].argtypes = result, list(arguments)
    return functions
