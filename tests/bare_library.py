"""The bare C API of llama.cpp, with nothing of this project's: what our answers are compared with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import llama_cpp
import numpy as np
import numpy.typing as npt

Native: TypeAlias = Any  # a pointer of llama_cpp, which has no types


def last_logits(path: Path, tokens: Sequence[int], *, n_ctx: int = 512) -> npt.NDArray[np.float32]:
    """Logits of the last of these tokens, computed in one batch, one thread, without flash attention."""
    with _bare_context(path, n_ctx) as context:
        _decode(context, tokens, 0)
        return _logits(context)


def greedy_tokens(path: Path, tokens: Sequence[int], count: int, *, n_ctx: int = 512) -> list[int]:
    """The tokens that follow, each the one of the largest logit; end tokens are tokens like others."""
    generated: list[int] = []
    with _bare_context(path, n_ctx) as context:
        _decode(context, tokens, 0)
        for position in range(len(tokens), len(tokens) + count):
            generated.append(int(np.argmax(_logits(context))))
            _decode(context, generated[-1:], position)
    return generated


@contextmanager
def _bare_context(path: Path, n_ctx: int) -> Iterator[Native]:
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
    assert model, f"{path} does not load"
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = n_ctx
    params.n_threads = params.n_threads_batch = 1
    params.flash_attn_type = 0
    context = llama_cpp.llama_init_from_model(model, params)
    assert context
    try:
        yield context
    finally:
        llama_cpp.llama_free(context)
        llama_cpp.llama_model_free(model)


def _decode(context: Native, tokens: Sequence[int], start: int) -> None:
    batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
        batch.token[i], batch.pos[i] = token, start + i
        batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
        batch.logits[i] = i == len(tokens) - 1
    try:
        assert llama_cpp.llama_decode(context, batch) == 0
    finally:
        llama_cpp.llama_batch_free(batch)


def _logits(context: Native) -> npt.NDArray[np.float32]:
    n_vocab = llama_cpp.llama_vocab_n_tokens(
        llama_cpp.llama_model_get_vocab(llama_cpp.llama_get_model(context))
    )
    return np.array(np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, -1), (n_vocab,)))
