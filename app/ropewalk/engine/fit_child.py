"""What fits, asked of the library in a process of its own: run by its path.

A damaged file can make native code end its process. The request is what `FitRequest` says; the answers are
messages `done` and `of`, while it measures, and at last one with the `fit` (a `FitReport`), or with the
`reason` why there is none and its `kind`: `patch`, `file` or `other`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypedDict

from ropewalk.backend.budgets import budgets
from ropewalk.backend.buffer_sizes import HOST
from ropewalk.backend.context_memory import heads_are_blocks
from ropewalk.backend.context_params import UNQUANTIZED, check_params
from ropewalk.backend.errors import (
    BackendError,
    LibraryNotPatchedError,
    ModelFileError,
    PlanRefusedError,
)
from ropewalk.backend.fit import CONTEXT_STEP, Budget, Need, largest_context, shortage
from ropewalk.backend.gpus import layer_devices
from ropewalk.backend.model import Model
from ropewalk.backend.needs import ContextNeeds
from ropewalk.backend.placement import longest_of_placements, most_layers, opened
from ropewalk.engine.codec import from_plain, to_plain
from ropewalk.engine.context_options import context_params
from ropewalk.engine.fit_report import DeviceRoom, DeviceTake, FitReport, FitRow, FittedModel, LongestContext
from ropewalk.engine.options import EngineOptions

_SHORTEST, _LONGEST = 256, 2**31 - 256


class FitRequest(TypedDict):
    """What is asked.

    Attributes:
        path: the model.
        options: `EngineOptions` as plain values; their length counts for nothing.
        n_ctx: the context's length in tokens; None for the model's target length.
        kv_types: names of cache types.
    """

    path: str
    options: Any
    n_ctx: int | None
    kv_types: list[str]


def main(request: FitRequest, report: Callable[[dict[str, Any]], None]) -> None:
    """Answer a request."""
    try:
        options = from_plain(EngineOptions, request["options"])
        with _Fit.opened(Path(request["path"]), options) as fit:
            found = fit.report(
                request["n_ctx"], request["kv_types"], lambda done, of: report({"done": done, "of": of})
            )
        report({"fit": to_plain(found)})
    except BackendError as error:
        report({"reason": str(error), "kind": _kind(error)})


def lengths_around(n_ctx: int) -> list[int]:
    """A length, and a few around it."""
    around = {-(-n_ctx * factor // 4 // CONTEXT_STEP) * CONTEXT_STEP for factor in (1, 2, 8, 16)}
    return sorted({n_ctx, *(length for length in around if _SHORTEST <= length <= _LONGEST)})


class _Fit:
    """One model without weights for each number of layers on GPUs that was asked for."""

    def __init__(self, path: Path, options: EngineOptions, models: ExitStack) -> None:
        self._path, self._options, self._models = path, options, models
        self._params = context_params(options)
        check_params(dataclasses.replace(self._params, n_ctx=1))
        self._gpus = layer_devices(options.rpc_servers) if options.gpu_layers != 0 else ()
        self._room = budgets(self._gpus, exactly=options.gpu_layers is not None)
        self._needs: dict[int, ContextNeeds] = {}
        self._model = self._open(-1 if self._gpus else 0)
        self._n_layers = len(self._model.placed.layer_devices)

    @classmethod
    @contextmanager
    def opened(cls, path: Path, options: EngineOptions) -> Iterator[_Fit]:
        with ExitStack() as models:
            yield cls(path, options, models)

    def report(
        self, n_ctx: int | None, kv_types: list[str], on_progress: Callable[[int, int], None]
    ) -> FitReport:
        described = self._described()
        n_ctx = n_ctx or described.target_length
        lengths = lengths_around(n_ctx)
        kv_types = [kv_type for kv_type in kv_types if self._can_cache(kv_type)]
        of = len(kv_types) * (len(lengths) + 1)
        rows: list[FitRow] = []
        longest: list[LongestContext] = []
        for kv_type in kv_types:
            for length in lengths:
                rows.append(self._row(kv_type, length))
                on_progress(len(rows) + len(longest), of)
            longest.append(LongestContext(kv_type, self._longest(kv_type)))
            on_progress(len(rows) + len(longest), of)
        return FitReport(described, n_ctx, self._rooms(), self._n_layers, tuple(rows), tuple(longest))

    def _described(self) -> FittedModel:
        model = self._model
        plan, _ = model.plan() or (None, False)
        own = model.context_length
        return FittedModel(
            n_layer=model.n_layer,
            size_bytes=model.size_bytes,
            train_length=plan.train_length if plan else model.original_context_length or own,
            target_length=plan.target_length if plan else own,
            streams=plan is not None and plan.streaming,
        )

    def _row(self, kv_type: str, n_ctx: int) -> FitRow:
        gpu_layers = self._counted()
        if gpu_layers is None:
            gpu_layers = most_layers(self._n_layers, lambda n: self._need(n, kv_type, n_ctx), self._room)
        need = self._need(gpu_layers, kv_type, n_ctx)
        short = shortage(need, self._room)
        return FitRow(
            kv_type=kv_type,
            n_ctx=n_ctx,
            gpu_layers=gpu_layers,
            devices=tuple(
                DeviceTake(device.device, device.weights, device.kv_cache, device.compute)
                for device in need.devices
            ),
            short_of=None if short is None else short.device,
            estimated=need.estimated,
        )

    def _longest(self, kv_type: str) -> int:
        """The longest context: with the layers that a person counted, or with the best number of them."""
        counted = self._counted()
        if counted is not None:
            return largest_context(lambda n_ctx: self._need(counted, kv_type, n_ctx), self._room)

        def longest_on(n: int) -> tuple[int, int]:
            def longest(room: tuple[Budget, ...]) -> int:
                return largest_context(lambda n_ctx: self._need(n, kv_type, n_ctx), room)

            return longest(self._room[1:]), longest(self._room[:1])

        return longest_of_placements(self._n_layers, longest_on)

    def _counted(self) -> int | None:
        """Layers on the GPUs where they are not to be chosen."""
        if not self._gpus:
            return 0
        asked = self._options.gpu_layers
        if asked is None:
            return None
        return self._n_layers if asked < 0 else min(asked, self._n_layers)

    def _need(self, gpu_layers: int, kv_type: str, n_ctx: int) -> Need:
        if gpu_layers not in self._needs:
            self._open(gpu_layers)
        return self._needs[gpu_layers].with_kv_type(kv_type)(n_ctx)

    def _open(self, gpu_layers: int) -> Model:
        options = self._options
        model = self._models.enter_context(
            opened(self._path, gpu_layers, options.rpc_servers if gpu_layers else (), options.plan)
        )
        n_layers = len(model.placed.layer_devices)
        self._needs[n_layers if gpu_layers < 0 else gpu_layers] = ContextNeeds(model, self._params)
        return model

    def _can_cache(self, kv_type: str) -> bool:
        return kv_type in UNQUANTIZED or (
            self._params.flash_attention != "off" and heads_are_blocks(self._model)
        )

    def _rooms(self) -> tuple[DeviceRoom, ...]:
        told = {gpu.name: gpu.description for gpu in self._gpus}
        return tuple(
            DeviceRoom(room.device, "" if room.device == HOST else told[room.device], room.free, room.margin)
            for room in self._room
        )


def _kind(error: BackendError) -> str:
    if isinstance(error, LibraryNotPatchedError):
        return "patch"
    return "file" if isinstance(error, (ModelFileError, PlanRefusedError)) else "other"
