"""A model and a context through the bare C API, patched or not: nothing of ours between but the plan."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from llama_cpp import llama_cpp as capi

from benchmark.jobs import Setup
from ropewalk.backend import context_plan, library, native_log
from ropewalk_plan import GgufHeader, make_plan, rope_spec_from_gguf

Native: TypeAlias = Any  # structs and pointers of llama_cpp, which has no types
NodeCallback = Callable[[int, bool, object], bool]
"""(a `ggml_tensor *`, whether it is a question, nothing): ggml's callback before and after a node."""

_KV_TYPES = {
    "f32": capi.GGML_TYPE_F32,
    "f16": capi.GGML_TYPE_F16,
    "q8_0": capi.GGML_TYPE_Q8_0,
    "q5_1": capi.GGML_TYPE_Q5_1,
    "q4_0": capi.GGML_TYPE_Q4_0,
}
_SCALINGS = {"linear": capi.LLAMA_ROPE_SCALING_TYPE_LINEAR, "yarn": capi.LLAMA_ROPE_SCALING_TYPE_YARN}
_KV_SIZE = re.compile(r"KV buffer size = +([\d.]+) MiB")
_MEBIBYTE = 1 << 20


class RefusedError(RuntimeError):
    """The library made no model or no context, or computed nothing; the message says why."""


class LoadedModel:
    """One sequence in one context."""

    def __init__(self, context: Native, n_vocab: int, n_batch: int, kv_bytes: int) -> None:
        """Wraps a `llama_context *`; use `loaded_model`."""
        self._context = context
        self._batch = capi.llama_batch_init(n_batch, 0, 1)
        self.n_vocab = n_vocab
        self.kv_bytes = kv_bytes

    def decode(self, tokens: Sequence[int], start: int, *, all_logits: bool = False) -> None:
        """Computes tokens at the positions from `start` on, to the end; logits of the last one, or of all.

        Raises:
            RefusedError: the library did not compute them.
        """
        batch = self._batch
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i] = token
            batch.pos[i] = start + i
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = 0
            batch.logits[i] = all_logits or i == len(tokens) - 1
        status = capi.llama_decode(self._context, batch)
        if status != 0:
            raise RefusedError(f"llama_decode returned {status} at position {start}: {_reason([])}")
        capi.llama_synchronize(self._context)

    def logits(self, rows: int) -> npt.NDArray[np.float32]:
        """A copy of the logits of the last decode: [rows, vocabulary]."""
        values = np.ctypeslib.as_array(capi.llama_get_logits(self._context), shape=(rows, self.n_vocab))
        return np.array(values, dtype=np.float32)

    def clear(self) -> None:
        """Forgets everything."""
        capi.llama_memory_clear(capi.llama_get_memory(self._context), True)

    def tokens(self, start: int, count: int) -> list[int]:
        """The text that is read at some positions: always the same tokens, all over the vocabulary."""
        return [(7919 * i + 17) % self.n_vocab for i in range(start, start + count)]

    def close(self) -> None:
        """Frees the context."""
        capi.llama_batch_free(self._batch)
        capi.llama_free(self._context)


@contextmanager
def loaded_model(setup: Setup, on_node: NodeCallback | None = None) -> Iterator[LoadedModel]:
    """A model with its plan and a context, on the CPU.

    Args:
        setup: what.
        on_node: told each node of each graph.

    Raises:
        RefusedError: the library takes the model or the context not.
        PlanRefusedError: it does not execute the plan.
    """
    library.initialize()
    parameters = capi.llama_model_default_params()
    parameters.n_gpu_layers = 0
    with native_log.fresh() as log:
        model = capi.llama_model_load_from_file(setup.model.encode(errors="surrogateescape"), parameters)
        if not model:
            raise RefusedError(f"{setup.model} cannot be loaded: {_reason(log.errors())}")
    try:
        if setup.method:
            spec = rope_spec_from_gguf(GgufHeader.read(Path(setup.model)))
            plan = make_plan(spec, setup.method, setup.target_length, options=setup.options)
            context_plan.set_plan(model, plan)
        callback = None if on_node is None else capi.ggml_backend_sched_eval_callback(on_node)
        native = _context_parameters(setup, callback)
        with _listening() as heard:
            context = capi.llama_init_from_model(model, native)
        if not context:
            errors = native_log.LOG.errors()
            raise RefusedError(f"no context of {setup.n_ctx:,} tokens could be made: {_reason(errors)}")
        kv_bytes = kv_bytes_logged("".join(heard).splitlines())
        n_vocab = int(capi.llama_vocab_n_tokens(capi.llama_model_get_vocab(model)))
        loaded = LoadedModel(context, n_vocab, setup.n_ctx, kv_bytes)
        try:
            yield loaded
        finally:
            loaded.close()
    finally:
        capi.llama_model_free(model)


@contextmanager
def _listening() -> Iterator[list[str]]:
    """All that the library logs meanwhile: more than `native_log` keeps, which gets it too."""
    heard: list[str] = []

    def write(level: int, text: bytes, _: object) -> None:
        heard.append(text.decode("utf-8", "replace"))
        native_log.LOG.write(level, heard[-1])

    callback = capi.llama_log_callback(write)
    native_log.LOG.clear()
    capi.llama_log_set(callback, ctypes.c_void_p(0))
    try:
        yield heard
    finally:
        native_log.install()


def kv_bytes_logged(lines: Sequence[str]) -> int:
    """The sizes of all KV caches that llama.cpp's log tells (to a hundredth of a MiB)."""
    return round(sum(float(match[1]) * _MEBIBYTE for line in lines if (match := _KV_SIZE.search(line))))


def _context_parameters(setup: Setup, callback: Native) -> Native:
    native = capi.llama_context_default_params()
    native.n_ctx = native.n_batch = setup.n_ctx
    native.n_ubatch = setup.n_ubatch
    native.n_seq_max = 1
    native.n_threads = native.n_threads_batch = setup.threads
    native.flash_attn_type = int(setup.flash_attention)
    native.type_k = native.type_v = _KV_TYPES[setup.kv_type]
    native.no_perf = True
    scaling = setup.native_scaling
    if scaling is not None:
        native.rope_scaling_type = _SCALINGS[scaling.kind]
        native.rope_freq_scale = 1.0 / scaling.scale
        native.yarn_orig_ctx = scaling.original_length
    if callback is not None:
        native.cb_eval = callback
    return native


def _reason(errors: Sequence[str]) -> str:
    """Why the library refused, in its own words."""
    refused = context_plan.last_error() if library.is_patched() else ""
    return refused or (errors[-1] if errors else "the library gave no reason")
