"""A llama.cpp context: the KV cache of one sequence, and the computation of its tokens."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from llama_cpp import llama_cpp as capi

from ropewalk.backend import context_plan, host, library, native_log
from ropewalk.backend.errors import ContextError, DecodeError, MemoryShortageError, PlanRefusedError
from ropewalk.backend.memory import MemoryNeed, cache_cells, check_fits, full_cache_bytes, memory_need
from ropewalk.backend.model import Model

FlashAttention = Literal["auto", "on", "off"]
Logits: TypeAlias = npt.NDArray[np.float32]
Native: TypeAlias = Any  # structs and pointers of llama_cpp, which has no types

KV_TYPES = {
    "f32": capi.GGML_TYPE_F32,
    "f16": capi.GGML_TYPE_F16,
    "q8_0": capi.GGML_TYPE_Q8_0,
    "q5_1": capi.GGML_TYPE_Q5_1,
    "q5_0": capi.GGML_TYPE_Q5_0,
    "q4_1": capi.GGML_TYPE_Q4_1,
    "q4_0": capi.GGML_TYPE_Q4_0,
}
"""Types that keys and values can be cached in."""

_BYTES_PER_NUMBER = {
    "f32": 4.0,
    "f16": 2.0,
    "q8_0": 34 / 32,
    "q5_1": 0.75,
    "q5_0": 22 / 32,
    "q4_1": 0.625,
    "q4_0": 18 / 32,
}
_UNQUANTIZED = ("f32", "f16")
_AUTO, _OFF, _ON = -1, 0, 1
_DECODED, _NO_SLOT, _ABORTED = 0, 1, 2


class DecodeStatus(Enum):
    """How a decode ended."""

    DONE = "done"
    ABORTED = "aborted"


@dataclass(frozen=True)
class ContextParams:
    """How a context is made.

    Attributes:
        n_ctx: tokens it must hold.
        n_batch: most tokens of one `decode`.
        n_ubatch: tokens computed at once.
        n_outputs: most rows of logits of one micro-batch; 1 keeps the working memory small.
        threads: CPU threads; None for the physical cores available.
        flash_attention: `auto` is off where only the CPU computes (measured slower there) unless the
            KV type needs it, else llama.cpp's own choice.
        kv_type: a name in `KV_TYPES`, for keys and values.
        n_sequences: texts held side by side, which share the room for `n_ctx` tokens.
    """

    n_ctx: int
    n_batch: int = 512
    n_ubatch: int = 512
    n_outputs: int = 1
    threads: int | None = None
    flash_attention: FlashAttention = "auto"
    kv_type: str = "f16"
    n_sequences: int = 1


@dataclass(frozen=True)
class KeptState:
    """Keys and values of a sequence in the library's own form, outside of any context."""

    data: Any
    size: int


class Context:
    """One sequence of tokens in a KV cache, position by position from 0."""

    def __init__(
        self, model: Model, params: ContextParams, should_abort: Callable[[], bool] | None = None
    ) -> None:
        """Makes a context; what the model's plan is now holds for it from then on.

        Args:
            model: must outlive the context.
            params: how.
            should_abort: asked between operations of a running decode, on the CPU only; once it says
                True the decode ends.

        Raises:
            ContextError: options that do not go together, or that the library does not take.
            MemoryShortageError: the context does not fit into memory.
            PlanRefusedError: the library does not execute the model's plan in such a context.
        """
        _check(params)
        self.model = model
        self._n_ctx = params.n_ctx
        self._quantized = params.kv_type not in _UNQUANTIZED
        check_memory(model, params)
        native = _native_params(model, params)
        if should_abort is not None:
            native.abort_callback = capi.ggml_abort_callback(lambda _data: should_abort())
        self._native_params = native  # keeps the callback alive
        with native_log.fresh() as log:
            self.handle = capi.llama_init_from_model(model.handle, native)
            if not self.handle:
                raise _refusal(model, params, log.errors())
        self.n_batch = int(capi.llama_n_batch(self.handle))
        self._memory = capi.llama_get_memory(self.handle)
        self._batch = _Batch(self.n_batch)
        self._rows = 0

    @property
    def n_ctx(self) -> int:
        """Tokens it holds, as asked for (llama.cpp allocates a multiple of 256)."""
        return self._n_ctx

    @property
    def length(self) -> int:
        """Tokens it holds now."""
        return int(capi.llama_memory_seq_pos_max(self._memory, 0)) + 1

    def decode(self, tokens: Sequence[int], *, all_logits: bool = False) -> DecodeStatus:
        """Computes tokens at the positions after those held, with logits of the last one, or of all.

        When aborted, the micro-batches that were finished remain: see `length`.

        Args:
            tokens: at most `n_batch`.
            all_logits: keep the logits of every token (needs `n_outputs` of at least a micro-batch).

        Raises:
            DecodeError: no room, or llama.cpp failed; it then holds what it held before or part of these.
        """
        start = self.length
        if not 0 < len(tokens) <= self.n_batch:
            raise DecodeError(f"a batch of {len(tokens)} tokens: it must have 1 to {self.n_batch}")
        if start + len(tokens) > self._n_ctx:
            raise DecodeError(f"{start + len(tokens):,} tokens do not fit into a context of {self._n_ctx:,}")
        self.model.vocabulary.require_valid(tokens)
        self._rows = 0
        self._batch.fill(tokens, start, all_logits)
        with native_log.fresh() as log:
            status = capi.llama_decode(self.handle, self._batch.native)
            if status == _ABORTED:
                return DecodeStatus.ABORTED
            if status != _DECODED:
                refused = context_plan.last_error() if library.is_patched() else ""
                raise DecodeError(refused or _decode_failure(status, log.errors()))
            capi.llama_synchronize(self.handle)
        self._rows = len(tokens) if all_logits else 1
        return DecodeStatus.DONE

    def logits(self) -> Logits:
        """A copy of the logits of the last decode: [1 or number of its tokens, vocabulary]."""
        shape = (self._rows, self.model.vocabulary.size)
        return np.array(np.ctypeslib.as_array(capi.llama_get_logits(self.handle), shape), dtype=np.float32)

    def reserve(self, n_tokens: int) -> bool:
        """Puts the plan's factors for so many tokens in force, where its factors change with the length.

        Keys that are held already are turned to them. False where they are quantized and cannot be: then
        nothing has changed. As they never can, quantized keys get the factors for a full context at once.
        """
        if not library.is_patched():
            return True
        try:
            context_plan.reserve(self.handle, self._n_ctx if self._quantized else n_tokens)
        except PlanRefusedError:
            return False
        return True

    def remove_from(self, position: int) -> bool:
        """Forgets the tokens from a position on; False where this model's memory cannot (nothing is done)."""
        return bool(capi.llama_memory_seq_rm(self._memory, 0, position, -1))

    @property
    def state_size(self) -> int:
        """Bytes that a copy of what it holds takes."""
        return int(capi.llama_state_seq_get_size(self.handle, 0))

    def state(self) -> KeptState:
        """A copy of what it holds, for another context of the same model, plan and options."""
        size = self.state_size
        data = (ctypes.c_uint8 * size)()
        written = int(capi.llama_state_seq_get_data(self.handle, data, size, 0))
        return KeptState(data, written)

    def restore(self, state: KeptState) -> bool:
        """Holds what another context held; where that cannot be, it holds nothing and the answer is False."""
        with native_log.fresh():
            read = int(capi.llama_state_seq_set_data(self.handle, state.data, state.size, 0))
        if read != state.size:
            self.clear()
        return read == state.size

    def clear(self) -> None:
        """Forgets everything."""
        capi.llama_memory_clear(self._memory, True)

    def close(self) -> None:
        """Frees the KV cache; harmless when repeated."""
        if self.handle:
            self._batch.close()
            capi.llama_free(self.handle)
            self.handle = None


class _Batch:
    """A `llama_batch` of sequence 0, made once and filled again."""

    def __init__(self, capacity: int) -> None:
        self.native = capi.llama_batch_init(capacity, 0, 1)
        self._tokens = self._view(self.native.token, capacity)
        self._positions = self._view(self.native.pos, capacity)
        self._wants_logits = self._view(self.native.logits, capacity)
        self._view(self.native.n_seq_id, capacity)[:] = 1
        for i in range(capacity):
            self.native.seq_id[i][0] = 0

    @staticmethod
    def _view(pointer: Native, capacity: int) -> npt.NDArray[np.generic]:
        return np.ctypeslib.as_array(pointer, (capacity,))

    def fill(self, tokens: Sequence[int], start: int, all_logits: bool) -> None:
        count = len(tokens)
        self.native.n_tokens = count
        self._tokens[:count] = tokens
        self._positions[:count] = np.arange(start, start + count)
        self._wants_logits[:count] = all_logits
        self._wants_logits[count - 1] = True

    def close(self) -> None:
        capi.llama_batch_free(self.native)


def fits(model: Model, params: ContextParams, beside: int) -> bool:
    """Whether a context and so many bytes more fit into the host's memory; True where it cannot be told."""
    if model.on_gpu or not model.is_plain_transformer:
        return True
    return _need(model, params).total(params.n_ctx) + beside <= host.available_memory()


def cache_bytes(model: Model, params: ContextParams) -> int | None:
    """Bytes of keys and values that a context would hold under the model's plan, or without one.

    None where the library does not say: a stock build, or a memory that is not made of these alone.
    """
    return model.kv_size(_native_params(model, params))


def check_memory(model: Model, params: ContextParams) -> None:
    """Refuses a context that would not fit into the host's memory.

    Only where the CPU computes alone: with layers on a GPU the library's own allocation decides.

    Raises:
        MemoryShortageError: with the largest context that would fit.
    """
    if model.on_gpu or not model.is_plain_transformer:
        return
    check_fits(_need(model, params), params.n_ctx, host.available_memory())


def _need(model: Model, params: ContextParams) -> MemoryNeed:
    """What a context would take; to be asked while the model has the plan that it is for."""
    native = _native_params(model, params)
    plan, is_native = model.plan() or (None, False)
    windows, sinks = (plan.windows, plan.sinks) if plan is not None and not is_native else ((), 0)
    n_ubatch, shape = int(native.n_ubatch), model.shape

    def cache_bytes(n_ctx: int) -> int:
        native.n_ctx = n_ctx
        told = model.kv_size(native)
        return full_cache_bytes(shape, n_ctx, _BYTES_PER_NUMBER[params.kv_type]) if told is None else told

    return memory_need(
        shape,
        weights=model.size_bytes,
        cache_bytes=cache_bytes,
        cells=lambda n_ctx: cache_cells(n_ctx, windows, sinks, n_ubatch),
        n_ubatch=n_ubatch,
        n_outputs=params.n_outputs,
        flash_attention=_flash_attention_type(model, params) == _ON,
        windowed=any(windows),
    )


def _check(params: ContextParams) -> None:
    if params.kv_type not in KV_TYPES:
        raise ContextError(f"{params.kv_type} is not a KV type: use one of {', '.join(KV_TYPES)}")
    if params.flash_attention == "off" and params.kv_type not in _UNQUANTIZED:
        raise ContextError(
            f"the KV type {params.kv_type} needs flash attention: leave it on auto, or use f16 or f32"
        )
    for name, value in (
        ("context length", params.n_ctx),
        ("batch size", params.n_batch),
        ("micro-batch size", params.n_ubatch),
        ("number of threads", 1 if params.threads is None else params.threads),
    ):
        if value < 1:
            raise ContextError(f"the {name} is {value}: it must be at least 1")


def _flash_attention_type(model: Model, params: ContextParams) -> int:
    if params.flash_attention != "auto":
        return _ON if params.flash_attention == "on" else _OFF
    if model.on_gpu:
        return _AUTO
    return _OFF if params.kv_type in _UNQUANTIZED else _ON


def _native_params(model: Model, params: ContextParams) -> Native:
    native = capi.llama_context_default_params()
    native.n_ctx = params.n_ctx
    native.n_batch = params.n_batch
    native.n_ubatch = min(params.n_ubatch, params.n_batch)
    native.n_seq_max = 1
    native.n_outputs_max = params.n_outputs
    native.n_threads = native.n_threads_batch = params.threads or host.available_cores()
    native.flash_attn_type = _flash_attention_type(model, params)
    native.type_k = native.type_v = KV_TYPES[params.kv_type]
    native.swa_full = True  # a prefix can be rolled back to in windowed layers too
    return native


def _refusal(model: Model, params: ContextParams, errors: list[str]) -> Exception:
    """Why the library made no context."""
    reason = context_plan.last_error() if library.is_patched() else ""
    if reason:
        return PlanRefusedError(f"{model.path}: {reason}")
    if any("alloc" in line or "out of memory" in line for line in errors):
        need = _need(model, params)
        free = (
            sum(gpu.memory_free for gpu in library.gpu_devices()) if model.on_gpu else host.available_memory()
        )
        return MemoryShortageError(
            f"a context of {params.n_ctx:,} tokens does not fit into memory: use a shorter one, "
            "a smaller KV type (q8_0) or fewer layers on the GPU",
            needed=need.total(params.n_ctx),
            free=free,
            largest_n_ctx=need.largest_n_ctx(free),
        )
    why = errors[-1] if errors else "the library gave no reason"
    return ContextError(f"{model.path}: no context of {params.n_ctx:,} tokens could be made: {why}")


def _decode_failure(status: int, errors: list[str]) -> str:
    if status == _NO_SLOT:
        return "the context is full: make a longer one"
    why = errors[-1] if errors else "no reason was given"
    return f"llama.cpp failed to compute (code {status}): {why}"
