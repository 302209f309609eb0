"""What a context takes by a formula, where the library does not say, or where a look is enough."""

from __future__ import annotations

from ropewalk.backend.context_params import ContextParams, flash_attention_type, native_params
from ropewalk.backend.memory import MemoryNeed, cache_cells, full_cache_bytes, memory_need
from ropewalk.backend.model import Model

_BYTES_PER_NUMBER = {
    "f32": 4.0,
    "f16": 2.0,
    "q8_0": 34 / 32,
    "q5_1": 0.75,
    "q5_0": 22 / 32,
    "q4_1": 0.625,
    "q4_0": 18 / 32,
}


def cache_bytes(model: Model, params: ContextParams) -> int | None:
    """Bytes of keys and values that a context would hold under the model's plan, or without one.

    None where the library does not say: a stock build, or a memory that is not made of these alone.
    """
    return model.kv_size(native_params(model, params))


def estimate(model: Model, params: ContextParams) -> MemoryNeed:
    """What a context would take; to be asked while the model has the plan that it is for."""
    native = native_params(model, params)
    plan, is_native = model.plan() or (None, False)
    windows, sinks = (plan.windows, plan.sinks) if plan is not None and not is_native else ((), 0)
    n_ubatch, shape = int(native.n_ubatch), model.shape

    def cache_bytes(n_ctx: int) -> int:
        native.n_ctx = n_ctx
        told = model.kv_size(native)
        return full_cache_bytes(shape, n_ctx, _BYTES_PER_NUMBER[params.kv_type]) if told is None else told

    return memory_need(
        shape,
        cache_bytes=cache_bytes,
        cells=lambda n_ctx: cache_cells(n_ctx, windows, sinks, n_ubatch),
        n_ubatch=n_ubatch,
        n_outputs=params.n_outputs,
        flash_attention=flash_attention_type(model, params) == 1,
        windowed=any(windows),
    )
