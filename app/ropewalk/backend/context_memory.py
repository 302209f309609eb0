"""Whether a context fits beside its model's weights, asked before it is made."""

from __future__ import annotations

from collections.abc import Callable

from ropewalk.backend.budgets import budgets
from ropewalk.backend.buffer_sizes import HOST
from ropewalk.backend.context_params import UNQUANTIZED, ContextParams
from ropewalk.backend.errors import MemoryShortageError
from ropewalk.backend.estimates import estimate
from ropewalk.backend.fit import Alternatives, Budget, Shortage, largest_context, refusal, shortage
from ropewalk.backend.gpus import layer_devices
from ropewalk.backend.model import Model
from ropewalk.backend.needs import ContextNeeds
from ropewalk.backend.placement import choose_gpu_layers
from ropewalk.backend.plan_choice import NO_PLAN

SMALLER_KV_TYPES = ("q8_0", "q4_0")
"""What is proposed where an unquantized cache is too large, the least loss first."""

_BLOCK = 32
"""Numbers that quantized cache types hold together; heads have to be made of whole blocks."""

_CLEARLY = 2
"""Where a formula says that so many times what the context takes would fit, nothing is measured."""


HeldOn = Callable[[str], int]
"""Bytes of a device that are taken now, and free again before the context is made."""


def check_memory(model: Model, params: ContextParams, held_on: HeldOn | None = None) -> None:
    """Refuses a context that would not fit beside the model's weights, on any of its devices.

    What contexts of the model take now counts as free: they go before another one is made. The host's page
    cache counts as free too, but weights that are mapped from the file count as needed: where they are pushed
    out, each token reads them from the disk again.

    Args:
        model: may be one without weights, to ask for one that is to be loaded like it.
        params: the context.
        held_on: what is released before; the model's own by default.

    Raises:
        MemoryShortageError: with what would fit instead.
    """
    held_on = held_on or model.held_on
    room = _room(model, held_on)
    if _fits_clearly(model, params, room):
        return
    with ContextNeeds(model, params) as needs:
        short = shortage(needs(params.n_ctx), room)
        if short is not None:
            raise _refusal(model, params, needs, short, room=room, held_on=held_on)


def fits(
    model: Model,
    params: ContextParams,
    beside: int,
    held_on: HeldOn | None = None,
    *,
    with_margin: bool = False,
) -> bool:
    """Whether a context, and so many bytes more of the host's memory, fit; see `check_memory`.

    Args:
        model: see `check_memory`.
        params: the context.
        beside: bytes of the host's memory.
        held_on: see `check_memory`.
        with_margin: whether the margins that layers are placed with must be left free.
    """
    host, *others = _room(model, held_on or model.held_on, exactly=not with_margin)
    room = (Budget(HOST, max(0, host.free - beside), host.margin), *others)
    if _fits_clearly(model, params, room):
        return True
    with ContextNeeds(model, params) as needs:
        return shortage(needs(params.n_ctx), room) is None


def does_not_fit(model: Model, params: ContextParams) -> MemoryShortageError:
    """The error for a context that the library found no memory for."""
    room = _room(model, model.held_on)
    with ContextNeeds(model, params) as needs:
        need = needs(params.n_ctx)
        short = shortage(need, room)
        if short is None:  # what is free was not free to us, or in pieces
            tightest = max(need.devices, key=lambda device: device.total)
            short = Shortage(tightest.device, tightest.total, tightest.weights, tightest.total)
        return _refusal(model, params, needs, short, room=room, held_on=model.held_on)


def heads_are_blocks(model: Model) -> bool:
    """Whether the model's keys and values can be cached in quantized types."""
    return model.shape.key_length % _BLOCK == 0 and model.shape.value_length % _BLOCK == 0


def _room(model: Model, held_on: HeldOn, *, exactly: bool = True) -> tuple[Budget, ...]:
    placed = model.placed
    gpus = layer_devices(placed.rpc_servers) if model.on_gpu else ()
    return budgets(gpus, held_on, exactly=exactly)


def _fits_clearly(model: Model, params: ContextParams, room: tuple[Budget, ...]) -> bool:
    if model.on_gpu or not model.is_plain_transformer:
        return False
    told = estimate(model, params)
    context = told.cache_bytes(params.n_ctx) + told.working(params.n_ctx)
    return model.size_bytes + _CLEARLY * context <= room[0].usable


def _refusal(
    model: Model,
    params: ContextParams,
    needs: ContextNeeds,
    short: Shortage,
    *,
    room: tuple[Budget, ...],
    held_on: HeldOn,
) -> MemoryShortageError:
    quantized = params.flash_attention != "off" and heads_are_blocks(model)
    smaller = SMALLER_KV_TYPES if quantized and params.kv_type in UNQUANTIZED else ()
    plan, native = model.plan() or (None, False)
    return refusal(
        params.n_ctx,
        short,
        Alternatives(
            n_ctx=largest_context(needs, room),
            by_kv_type={kv_type: largest_context(needs.with_kv_type(kv_type), room) for kv_type in smaller},
            windowed=plan is not None and not native and any(plan.windows),
            gpu_layers=None if short.device == HOST else _gpu_layers(model, params, held_on),
        ),
    )


def _gpu_layers(model: Model, params: ContextParams, held_on: HeldOn) -> int:
    plan, native = model.plan() or (None, False)
    return choose_gpu_layers(
        model.path, None if native else plan or NO_PLAN, params, model.placed.rpc_servers, held_on=held_on
    )
