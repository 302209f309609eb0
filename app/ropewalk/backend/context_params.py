"""How a context is made: the options, and llama.cpp's parameters for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from llama_cpp import llama_cpp as capi

from ropewalk.backend import host
from ropewalk.backend.errors import ContextError
from ropewalk.backend.model import Model

FlashAttention = Literal["auto", "on", "off"]
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

MAX_SEQUENCES = int(capi.llama_max_parallel_sequences())
"""Most texts that a context holds side by side."""

UNQUANTIZED = ("f32", "f16")
"""Types that the cache may have without flash attention."""

_AUTO, _OFF, _ON = -1, 0, 1


@dataclass(frozen=True)
class ContextParams:
    """How a context is made.

    Attributes:
        n_ctx: tokens it must hold, of all sequences together.
        n_batch: most tokens of one `decode`.
        n_ubatch: tokens computed at once.
        n_outputs: most rows of logits of one `decode`; 1 keeps the working memory small.
        threads: CPU threads; None for the physical cores available.
        flash_attention: `auto` is off where only the CPU computes (measured slower there) unless the
            KV type needs it, else llama.cpp's own choice.
        kv_type: a name in `KV_TYPES`, for keys and values.
        n_sequences: texts held side by side, which share the room for `n_ctx` tokens: what one was copied
            from another takes its cells once.
    """

    n_ctx: int
    n_batch: int = 512
    n_ubatch: int = 512
    n_outputs: int = 1
    threads: int | None = None
    flash_attention: FlashAttention = "auto"
    kv_type: str = "f16"
    n_sequences: int = 1


def check_params(params: ContextParams) -> None:
    """Refuses options that do not go together.

    Raises:
        ContextError: naming the one.
    """
    if params.kv_type not in KV_TYPES:
        raise ContextError(f"{params.kv_type} is not a KV type: use one of {', '.join(KV_TYPES)}")
    if params.flash_attention == "off" and params.kv_type not in UNQUANTIZED:
        raise ContextError(
            f"the KV type {params.kv_type} needs flash attention: leave it on auto, or use f16 or f32"
        )
    if not 1 <= params.n_sequences <= MAX_SEQUENCES:
        raise ContextError(f"{params.n_sequences} sequences: a context holds 1 to {MAX_SEQUENCES}")
    for name, value in (
        ("context length", params.n_ctx),
        ("batch size", params.n_batch),
        ("micro-batch size", params.n_ubatch),
        ("number of threads", 1 if params.threads is None else params.threads),
    ):
        if value < 1:
            raise ContextError(f"the {name} is {value}: it must be at least 1")


def flash_attention_type(model: Model, params: ContextParams) -> int:
    """Llama.cpp's number for whether a context has flash attention: -1 where it is to find out."""
    if params.flash_attention != "auto":
        return _ON if params.flash_attention == "on" else _OFF
    if model.on_gpu:
        return _AUTO
    return _OFF if params.kv_type in UNQUANTIZED else _ON


def native_params(model: Model, params: ContextParams) -> Native:
    """The `llama_context_params` of a context on a model."""
    native = capi.llama_context_default_params()
    native.n_ctx = params.n_ctx
    native.n_batch = params.n_batch
    native.n_ubatch = min(params.n_ubatch, params.n_batch)
    native.n_seq_max = params.n_sequences
    native.kv_unified = params.n_sequences > 1  # copies share cells, and one text may take all of them
    native.n_outputs_max = max(params.n_outputs, params.n_sequences)  # the library reserves one for each
    native.n_threads = native.n_threads_batch = params.threads or host.available_cores()
    native.flash_attn_type = flash_attention_type(model, params)
    native.type_k = native.type_v = KV_TYPES[params.kv_type]
    native.swa_full = True  # a prefix can be rolled back to in windowed layers too
    return native
