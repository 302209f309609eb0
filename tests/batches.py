"""Batches of the bare C API that one sequence's next tokens do not cover."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import llama_cpp
import numpy as np

from library_logits import Float32, LoadedContext


def decode_tokens(
    context: LoadedContext, tokens: Sequence[int], positions: Sequence[int], sequences: Sequence[int]
) -> Float32:
    """Logits of every token, [tokens, vocabulary], each at a position of a sequence."""
    with _batch(context, positions, sequences, n_embd=0) as batch:
        for i, token in enumerate(tokens):
            batch.token[i] = token
    return _logits(context, len(tokens))


def decode_rows(
    context: LoadedContext, rows: Float32, positions: Sequence[int], sequences: Sequence[int]
) -> Float32:
    """The same of embeddings, [tokens, n_embd], in the place of tokens."""
    with _batch(context, positions, sequences, n_embd=rows.shape[1]) as batch:
        np.ctypeslib.as_array(batch.embd, shape=rows.shape)[:] = rows
    return _logits(context, len(rows))


@contextmanager
def _batch(
    context: LoadedContext, positions: Sequence[int], sequences: Sequence[int], n_embd: int
) -> Iterator[llama_cpp.llama_batch]:
    """A batch to fill with tokens or rows; afterwards it is decoded, for the outputs of all."""
    batch = llama_cpp.llama_batch_init(len(positions), n_embd, 1)
    batch.n_tokens = len(positions)
    for i, (position, sequence) in enumerate(zip(positions, sequences, strict=True)):
        batch.pos[i] = position
        batch.n_seq_id[i] = 1
        batch.seq_id[i][0] = sequence
        batch.logits[i] = True
    yield batch
    status = llama_cpp.llama_decode(context.context, batch)
    llama_cpp.llama_batch_free(batch)
    assert status == 0, f"llama_decode returned {status}"


def _logits(context: LoadedContext, n_tokens: int) -> Float32:
    values = llama_cpp.llama_get_logits(context.context)
    return np.array(np.ctypeslib.as_array(values, shape=(n_tokens, context.n_vocab)), dtype=np.float32)


def cut_front(context: LoadedContext, count: int, sequence: int = 0) -> None:
    """Removes a sequence's first positions and moves the others down; keys are turned at the next decode."""
    assert llama_cpp.llama_memory_seq_rm(context.memory, sequence, 0, count)
    llama_cpp.llama_memory_seq_add(context.memory, sequence, count, -1, -count)
