"""Where a loaded model's layers have to be for another context. Runs in the model process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ropewalk.backend.context_memory import check_memory, fits
from ropewalk.backend.context_params import ContextParams
from ropewalk.backend.model import Model
from ropewalk.backend.placement import choose_gpu_layers, opened
from ropewalk.backend.plan_choice import PlanChoice
from ropewalk.engine.options import EngineOptions
from ropewalk_plan.gguf_header import GgufError, GgufHeader

SLOW_TO_READ = 10**9
"""Bytes of a file from which on it is found out before reading it whether it fits with its context."""


def check_before_reading(path: Path, params: ContextParams, options: EngineOptions, gpu_layers: int) -> None:
    """Refuses a large model that does not fit with its context; of a small one the context is refused.

    Raises:
        MemoryShortageError: with what would fit.
        BackendError: the model cannot be loaded at all.
    """
    try:
        if GgufHeader.read(path).model_bytes < SLOW_TO_READ:
            return
    except GgufError:
        return  # loading says why
    with opened(path, gpu_layers, options.rpc_servers, options.plan) as model:
        check_memory(model, params)


@contextmanager
def placed_for(
    model: Model, params: ContextParams, options: EngineOptions, plan: PlanChoice
) -> Iterator[Model]:
    """The model itself, or one without weights whose layers lie where the model's have to be moved to.

    They are moved only where as many layers as fit are to be on the GPUs, and the context does not fit beside
    those that are.

    Args:
        model: loaded.
        params: of the context that is to take the place of the one there is.
        options: that the model was loaded with.
        plan: which plan the model has.
    """
    if options.gpu_layers is None and not fits(model, params, 0, with_margin=True):
        n = choose_gpu_layers(model.path, plan, params, options.rpc_servers, held_on=model.held_on)
        if n != model.placed.gpu_layers:
            with opened(model.path, n, options.rpc_servers, plan) as elsewhere:
                yield elsewhere
            return
    yield model
