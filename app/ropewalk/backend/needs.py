"""What contexts on a model take on each device: measured by the library, by a formula where it cannot be."""

from __future__ import annotations

import dataclasses
from types import TracebackType

from ropewalk.backend import library
from ropewalk.backend.buffer_sizes import HOST, ContextBuffers, measure
from ropewalk.backend.context_params import ContextParams, flash_attention_type, native_params
from ropewalk.backend.estimates import estimate
from ropewalk.backend.fit import CONTEXT_STEP, DeviceNeed, Need, NeedOf
from ropewalk.backend.model import Model

MEASURED_LENGTH = 2**20
"""Longest context that is measured, which takes 50 MB for its cells; longer ones go on as straight lines."""

CELL_BYTES = 150
"""What a cell of a cache takes besides its keys and values, in llama.cpp's lists of what is where
(llama-kv-cells.h: 48 bytes in arrays, and two nodes of trees once it is filled)."""

_F32_BYTES = 4


class ContextNeeds:
    """What contexts on a model would take, one length after the other; to be closed.

    A model that was loaded without weights is measured itself, for any other one a second is loaded that way,
    when it is first needed.
    """

    def __init__(self, model: Model, params: ContextParams) -> None:
        """For one way of making contexts.

        Args:
            model: with the plan that the contexts are to have.
            params: all but their length.
        """
        self._model = model
        self._params = params
        self._twin: Model | None = model if model.placed.without_weights else None
        self._weights = model.weights_on()
        self._devices = (HOST, *(gpu.name for gpu in model.placed.gpus))
        self._known: dict[ContextParams, Need | None] = {}

    def __enter__(self) -> ContextNeeds:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Frees what was loaded to be measured."""
        if self._twin is not None and self._twin is not self._model:
            self._twin.close()
        self._twin = None

    def __call__(self, n_ctx: int) -> Need:
        """What the model with a context of `n_ctx` tokens takes."""
        return self._of(dataclasses.replace(self._params, n_ctx=n_ctx))

    def with_kv_type(self, kv_type: str) -> NeedOf:
        """The same for contexts that cache another type."""
        return lambda n_ctx: self._of(dataclasses.replace(self._params, kv_type=kv_type, n_ctx=n_ctx))

    def _of(self, params: ContextParams) -> Need:
        params = dataclasses.replace(params, n_ctx=max(1, -(-params.n_ctx // CONTEXT_STEP)) * CONTEXT_STEP)
        need = self._measured(params) if params.n_ctx <= MEASURED_LENGTH else self._extended(params)
        return self._by_formula(params) if need is None else need

    def _measured(self, params: ContextParams) -> Need | None:
        if params not in self._known:
            twin = self._open_twin()
            assert twin.handle is not None, "the model is closed"
            buffers = measure(twin.handle, native_params(twin, params), twin.placed.gpus, _cache_shares(twin))
            self._known[params] = None if buffers is None else self._need(buffers, params)
        return self._known[params]

    def _extended(self, params: ContextParams) -> Need | None:
        """Beyond what is measured: the line through the last two lengths."""
        half, whole = (
            self._measured(dataclasses.replace(params, n_ctx=length))
            for length in (MEASURED_LENGTH // 2, MEASURED_LENGTH)
        )
        if half is None or whole is None:
            return None
        steps = (params.n_ctx - MEASURED_LENGTH) / (MEASURED_LENGTH // 2)

        def extended(before: int, last: int) -> int:
            return last + round((last - before) * steps)

        return Need(
            tuple(
                DeviceNeed(
                    last.device,
                    last.weights,
                    extended(before.kv_cache, last.kv_cache),
                    extended(before.compute, last.compute),
                )
                for before, last in zip(half.devices, whole.devices, strict=True)
            )
        )

    def _need(self, buffers: ContextBuffers, params: ContextParams) -> Need:
        besides = (
            sum(buffers.n_cells) * CELL_BYTES
            + self._threads_bytes(buffers, params)
            + self._later_logits_bytes(params)
        )
        return Need(
            tuple(
                DeviceNeed(
                    name,
                    self._weights.get(name, 0),
                    buffers.kv_cache.get(name, 0),
                    buffers.compute.get(name, 0) + (besides if name == HOST else 0),
                )
                for name in self._devices
            )
        )

    def _threads_bytes(self, buffers: ContextBuffers, params: ContextParams) -> int:
        """What the CPU's threads share beside the buffers, where attention multiplies F16 values.

        Without flash attention ggml converts a layer's scores to F16 there (`ggml_graph_plan`).
        """
        model = self._model
        on_host = HOST in (model.placed.layer_devices or (HOST,))
        if not on_host or params.kv_type != "f16" or flash_attention_type(model, params) != 0:
            return 0
        n_ubatch = min(params.n_ubatch, params.n_batch, params.n_ctx)
        return 2 * model.shape.n_head * max(buffers.n_cells, default=0) * n_ubatch

    def _later_logits_bytes(self, params: ContextParams) -> int:
        """Rows of logits that the library makes room for when they are first asked for (`output_reserve`)."""
        rows = min(params.n_outputs, params.n_batch) - params.n_sequences
        return max(0, rows) * self._model.shape.n_vocab * _F32_BYTES

    def _by_formula(self, params: ContextParams) -> Need:
        """The formula's numbers: the cache as the layers are spread, the working memory on each device."""
        told = estimate(self._model, params)
        layers = self._model.placed.layer_devices[:-1] or (HOST,)
        return Need(
            tuple(
                DeviceNeed(
                    name,
                    self._weights.get(name, 0),
                    round(told.cache_bytes(params.n_ctx) * layers.count(name) / len(layers)),
                    told.working(params.n_ctx) if name in layers or name == HOST else 0,
                )
                for name in self._devices
            ),
            estimated=True,
        )

    def _open_twin(self) -> Model:
        if self._twin is None:
            placed = self._model.placed
            self._twin = Model.load(
                self._model.path,
                gpu_layers=placed.gpu_layers,
                rpc_servers=placed.rpc_servers,
                without_weights=True,
            )
            if library.is_patched():
                plan, native = self._model.plan() or (None, False)
                if not native:
                    self._twin.set_plan(plan)
        return self._twin


def _cache_shares(model: Model) -> tuple[float, ...]:
    """How much of a cache each layer takes, by its KV heads; empty where all have as many."""
    heads = model.meta(f"{model.architecture}.attention.head_count_kv")
    return tuple(float(number) for number in heads) if isinstance(heads, list) else ()
