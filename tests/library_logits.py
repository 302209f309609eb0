"""The bare C API of llama.cpp, with nothing of ours between: what our answers are compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import llama_cpp
import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Mode:
    """How the library computes; the defaults are the most exact it has."""

    kv_type: int = llama_cpp.GGML_TYPE_F32
    flash_attention: bool = False
    ubatch_size: int = 512
    v_type: int | None = None  # the keys' where None
    n_seq_max: int = 1
    kv_unified: bool = False
    threads: int = 1  # of tiny models more only wait for each other
    swa_full: bool = True  # whether natively sliding layers keep every cell
    pooling: int | None = None  # embeddings are computed, and pooled so, where it is not None
    gpu_layers: int = 0  # the tests compute on the CPU; scripts/gpu_check offloads all


AS_THE_ENGINE = Mode(kv_type=llama_cpp.GGML_TYPE_F16)


@dataclass
class LoadedContext:
    """One context of one model, both alive within `loaded`."""

    model: llama_cpp.llama_model_p
    context: llama_cpp.llama_context_p
    n_vocab: int

    def decode(self, tokens: Sequence[int], start: int = 0) -> Float32:
        """Logits of every token, [tokens, vocabulary]; the tokens stand at positions from `start` on."""
        batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i] = token
            batch.pos[i] = start + i
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = 0
            batch.logits[i] = True
        status = llama_cpp.llama_decode(self.context, batch)
        llama_cpp.llama_batch_free(batch)
        assert status == 0, f"llama_decode returned {status}"
        values = np.ctypeslib.as_array(
            llama_cpp.llama_get_logits(self.context), shape=(len(tokens), self.n_vocab)
        )
        return np.array(values, dtype=np.float32)

    @property
    def memory(self) -> llama_cpp.llama_memory_t:
        """The context's KV cache."""
        return llama_cpp.llama_get_memory(self.context)


class LibraryRefusedError(RuntimeError):
    """The library made no model or no context."""


@contextmanager
def loaded(
    path: Path,
    n_ctx: int,
    mode: Mode = Mode(),
    prepare: Callable[[llama_cpp.llama_model_p], None] | None = None,
) -> Iterator[LoadedContext]:
    """A model of `path` and a context of `n_ctx` tokens; `prepare` runs between the two."""
    parameters = llama_cpp.llama_model_default_params()
    parameters.n_gpu_layers = mode.gpu_layers
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
    if not model:
        raise LibraryRefusedError(f"no model of {path.name}")
    context = None
    try:
        if prepare is not None:
            prepare(model)
        context_parameters = llama_cpp.llama_context_default_params()
        context_parameters.n_ctx = n_ctx
        context_parameters.n_batch = n_ctx
        context_parameters.n_ubatch = mode.ubatch_size
        context_parameters.n_threads = mode.threads
        context_parameters.n_threads_batch = mode.threads
        context_parameters.type_k = mode.kv_type
        context_parameters.type_v = mode.kv_type if mode.v_type is None else mode.v_type
        context_parameters.n_seq_max = mode.n_seq_max
        context_parameters.kv_unified = mode.kv_unified
        context_parameters.swa_full = mode.swa_full
        if mode.pooling is not None:
            context_parameters.embeddings = True
            context_parameters.pooling_type = mode.pooling
        context_parameters.flash_attn_type = int(mode.flash_attention)
        context_parameters.no_perf = True
        context = llama_cpp.llama_init_from_model(model, context_parameters)
        if not context:
            raise LibraryRefusedError(f"no context of {path.name}")
        n_vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        yield LoadedContext(model, context, n_vocab)
    finally:
        if context:
            llama_cpp.llama_free(context)
        llama_cpp.llama_model_free(model)


def library_logits(path: Path, tokens: Sequence[int], mode: Mode = Mode(), start: int = 0) -> Float32:
    """Logits of every token of one prefill, [tokens, vocabulary]."""
    with loaded(path, n_ctx=start + len(tokens), mode=mode) as context:
        return context.decode(tokens, start)


def last_logits(path: Path, tokens: Sequence[int]) -> Float32:
    """Logits of the last of these tokens, [vocabulary], as the engine's defaults compute them."""
    last: Float32 = library_logits(path, tokens, AS_THE_ENGINE)[-1]
    return last


def greedy_tokens(path: Path, tokens: Sequence[int], count: int) -> list[int]:
    """The tokens that follow, each the one of the largest logit; end tokens are tokens like others."""
    generated: list[int] = []
    with loaded(path, len(tokens) + count, AS_THE_ENGINE) as context:
        logits = context.decode(tokens)[-1]
        for position in range(len(tokens), len(tokens) + count):
            generated.append(int(np.argmax(logits)))
            logits = context.decode(generated[-1:], position)[-1]
    return generated
