"""A model's weights in memory, and what its file says about it."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from llama_cpp import llama_cpp as capi

from ropewalk.backend import context_plan, library, native_log, rpc
from ropewalk.backend.buffer_sizes import ContextBuffers
from ropewalk.backend.errors import ModelFileError, PlanRefusedError, StoppedError
from ropewalk.backend.gpus import layer_devices
from ropewalk.backend.library import DeviceInfo
from ropewalk.backend.memory import ModelShape
from ropewalk.backend.rpc_server import RpcAddress
from ropewalk.backend.vocabulary import Vocabulary
from ropewalk.backend.weights import weight_bytes
from ropewalk_plan.gguf_header import GgufError, GgufHeader
from ropewalk_plan.metadata import read_plan
from ropewalk_plan.plan import ContextPlan, PlanError

_ASSIGNED = re.compile(r"load_tensors: layer +\d+ assigned to device ([^,]+),")


@dataclass(frozen=True)
class Placed:
    """Where a model's layers are.

    Attributes:
        gpu_layers: as it was asked for; -1 for all.
        rpc_servers: other machines whose devices hold layers.
        layer_devices: the device of each layer by ggml's name, and last that of the output.
        gpus: what they were spread over.
        without_weights: whether no weight was read, and nothing allocated.
    """

    gpu_layers: int
    rpc_servers: tuple[RpcAddress, ...]
    layer_devices: tuple[str, ...]
    gpus: tuple[DeviceInfo, ...]
    without_weights: bool


class Model:
    """Loaded weights. Contexts on it must be closed before it is."""

    def __init__(self, header: GgufHeader, handle: int, placed: Placed) -> None:
        """Wraps a `llama_model *`; use `load`."""
        self.path = header.path
        self.placed = placed
        self.on_gpu = bool(placed.gpus)
        self._contexts: list[ContextBuffers] = []
        self._header = header
        self.handle: int | None = handle
        self.vocabulary = Vocabulary(capi.llama_model_get_vocab(handle))

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        gpu_layers: int = -1,
        rpc_servers: Sequence[RpcAddress] = (),
        without_weights: bool = False,
        on_progress: Callable[[float], bool] | None = None,
    ) -> Model:
        """Loads a GGUF file.

        Args:
            path: the file (of a split model, the first part).
            gpu_layers: layers to keep on the GPU; -1 for all, where there is one.
            rpc_servers: other machines, whose devices count as GPUs too.
            without_weights: read no weight, and make no room for any: to ask how large contexts would be.
            on_progress: told the share loaded, 0 to 1; loading stops if it returns False.

        Raises:
            ModelFileError: the file is missing, unreadable, not GGUF, cut short or of an unknown kind.
            LibraryNotPatchedError: the file's plan needs the patched library, or the servers one with RPC.
            RpcServerError: a server cannot be used.
            PlanRefusedError: the library refuses the file's plan.
            StoppedError: `on_progress` returned False.
        """
        library.initialize()
        header = _read_header(path)
        _require_executed_plan(header)
        params = capi.llama_model_default_params()
        params.n_gpu_layers = gpu_layers
        if without_weights:
            params.no_alloc, params.load_mode = True, capi.LLAMA_LOAD_MODE_NONE  # a mapping asserts in it
        devices = rpc.devices_for_layers(rpc_servers) if rpc_servers else None
        gpus = layer_devices(rpc_servers) if gpu_layers else ()
        if devices is not None:
            params.devices = ctypes.cast(devices, ctypes.c_void_p)
        cancelled = False

        def progress(share: float, _data: object) -> bool:
            nonlocal cancelled
            cancelled = on_progress is not None and not on_progress(share)
            return not cancelled

        params.progress_callback = capi.llama_progress_callback(progress)
        with native_log.fresh() as log, log.collecting(_ASSIGNED) as assigned:
            handle = capi.llama_model_load_from_file(str(path).encode(errors="surrogateescape"), params)
            if not handle:
                raise (
                    StoppedError(f"loading {path} was stopped") if cancelled else _refusal(path, log.errors())
                )
        rpc.connect(rpc_servers)
        device_names = tuple(match[1] for line in assigned if (match := _ASSIGNED.search(line)))
        placed = Placed(gpu_layers, tuple(rpc_servers), device_names, gpus, without_weights)
        return cls(header, handle, placed)

    def close(self) -> None:
        """Frees the weights; harmless when repeated."""
        if self.handle:
            capi.llama_model_free(self.handle)
            self.handle = None
            rpc.disconnect(self.placed.rpc_servers)

    @property
    def header(self) -> GgufHeader:
        """What the file says of itself."""
        return self._header

    def hold(self, buffers: ContextBuffers) -> None:
        """Counts what a context that was made takes."""
        self._contexts.append(buffers)

    def release(self, buffers: ContextBuffers) -> None:
        """Counts a context no longer."""
        self._contexts = [other for other in self._contexts if other is not buffers]

    def weights_on(self) -> dict[str, int]:
        """Bytes of the weights on each device, loaded or not."""
        return weight_bytes(self._header, self.placed.layer_devices)

    def held_on(self, device: str) -> int:
        """Bytes of a device that are this model's and its contexts'."""
        weights = 0 if self.placed.without_weights else self.weights_on().get(device, 0)
        return weights + sum(buffers.total(device) for buffers in self._contexts)

    def meta(self, key: str) -> object | None:
        """A value of the file's metadata (arrays as lists); None where it has no such key."""
        return self._header.value(key)

    @property
    def architecture(self) -> str:
        """GGUF's `general.architecture`."""
        return str(self.meta("general.architecture") or "")

    @property
    def n_layer(self) -> int:
        """Number of layers."""
        return int(capi.llama_model_n_layer(self.handle))

    @property
    def n_params(self) -> int:
        """Number of weights."""
        return int(capi.llama_model_n_params(self.handle))

    @property
    def size_bytes(self) -> int:
        """Bytes of all weights."""
        return int(capi.llama_model_size(self.handle))

    @property
    def context_length(self) -> int:
        """The longest context the file says it is for; the plan's target length on the patched library."""
        return int(capi.llama_model_n_ctx_train(self.handle))

    @property
    def original_context_length(self) -> int | None:
        """The train length of a file that llama.cpp's own keys extend; None where they do not say."""
        return next(iter(self._numbers("rope.scaling.original_context_length")), None)

    @property
    def chat_template(self) -> str | None:
        """The Jinja source of the file's chat template."""
        text = capi.llama_model_chat_template(self.handle, None)
        return text.decode("utf-8", "replace") if text else None

    @property
    def is_plain_transformer(self) -> bool:
        """Whether every layer attends to cached keys and values (no recurrent state, no encoder)."""
        return not any(
            is_kind(self.handle)
            for is_kind in (
                capi.llama_model_is_recurrent,
                capi.llama_model_is_hybrid,
                capi.llama_model_has_encoder,
            )
        )

    @property
    def shape(self) -> ModelShape:
        """The numbers that decide how much memory a context takes."""
        n_embd = int(capi.llama_model_n_embd(self.handle))
        n_head = max(1, int(capi.llama_model_n_head(self.handle)))
        head = n_embd // n_head
        kv_heads = self._numbers("attention.head_count_kv") or [int(capi.llama_model_n_head_kv(self.handle))]
        return ModelShape(
            n_embd=n_embd,
            n_ff=max(self._numbers("feed_forward_length") or [4 * n_embd]),
            n_head=n_head,
            n_kv_heads=sum(kv_heads) if len(kv_heads) > 1 else self.n_layer * kv_heads[0],
            key_length=max(self._numbers("attention.key_length") or [head]),
            value_length=max(self._numbers("attention.value_length") or [head]),
            n_vocab=self.vocabulary.size,
        )

    def kv_size(self, params: context_plan.ContextStruct) -> int | None:
        """Bytes of keys and values that a context would hold, made with these `llama_context_params`.

        None where the library does not say: a stock build, or a memory that is not made of these alone.
        """
        return context_plan.kv_size(self._open_handle(), params) if library.is_patched() else None

    def plan(self) -> tuple[ContextPlan, bool] | None:
        """The plan in force and whether it is native, so that a stock library executes it too.

        Raises:
            PlanRefusedError: the file's plan cannot be read.
        """
        try:
            if library.is_patched():
                return context_plan.get_plan(self._open_handle())
            stored = read_plan(self._header)
            return None if stored is None else (stored.plan, stored.native)
        except PlanError as error:
            raise PlanRefusedError(f"{self.path}: {error}") from error

    def set_plan(self, plan: ContextPlan | None) -> None:
        """Gives the model another plan, or none, for contexts made from now on.

        Raises:
            LibraryNotPatchedError: the library is a stock build.
            PlanRefusedError: the library does not execute the plan; the model keeps what it had.
        """
        context_plan.set_plan(self._open_handle(), plan)

    def _open_handle(self) -> int:
        assert self.handle is not None, "the model is closed"
        return self.handle

    def _numbers(self, key: str) -> list[int]:
        """The whole numbers of a scalar or an array under the architecture's prefix; [] for none."""
        value = self.meta(f"{self.architecture}.{key}")
        return [
            number for number in (value if isinstance(value, list) else [value]) if isinstance(number, int)
        ]


def _read_header(path: Path) -> GgufHeader:
    try:
        return GgufHeader.read(path)
    except GgufError as error:
        raise ModelFileError(str(error)) from error


def _require_executed_plan(header: GgufHeader) -> None:
    """Refuses a file whose plan this library would silently leave out."""
    if header.value("ropewalk.schema") is not None and header.value("ropewalk.native") is not True:
        library.require_patched(f"The context plan of {header.path}")


def _refusal(path: Path, errors: list[str]) -> Exception:
    """Why the library did not load a file."""
    reason = context_plan.last_error() if library.is_patched() else ""
    if reason:
        return PlanRefusedError(f"{path}: {reason}")
    why = errors[0] if errors else "the library gave no reason"
    return ModelFileError(f"{path} cannot be loaded: {why}")
