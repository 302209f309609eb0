"""A small reader of llama.cpp's saved sequences, to see the keys in a memory.

The layout is that of `llama_kv_cache::state_write` of the pinned release, for memories of one stream and
models with one position a token: magic and sequence, what the patch says of the plan (where there is one),
the streams, each cell's position and sequences, then every layer's keys as rows of cells, then the values.
"""

from __future__ import annotations

import ctypes
import struct
from dataclasses import dataclass

import llama_cpp
import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import dequantize

from reference_transformer import Float64

PLAN_MAGIC = b"RWPL"
_PLAN_BYTES = 24


@dataclass(frozen=True)
class SavedSequence:
    """What a saved sequence holds.

    Attributes:
        plan_hash: of the context plan; None where there was none.
        plan_step: the step in force; None likewise.
        positions: of the cells, rising.
        keys: per layer, [cells, n_head_kv * head_dim], as stored (turned by a Hadamard matrix where
            llama.cpp does that), in the order of `positions`.
    """

    plan_hash: int | None
    plan_step: int | None
    positions: tuple[int, ...]
    keys: tuple[Float64, ...]


def save(context: llama_cpp.llama_context_p, sequence: int = 0) -> bytes:
    """One sequence, as llama.cpp writes it."""
    size = llama_cpp.llama_state_seq_get_size(context, sequence)
    data = (ctypes.c_uint8 * size)()
    assert llama_cpp.llama_state_seq_get_data(context, data, size, sequence) == size
    return bytes(data)


def read(data: bytes) -> SavedSequence:
    """Parses what `save` gave."""
    at = 8  # magic, sequence
    plan_hash = plan_step = None
    if data[at : at + 4] == PLAN_MAGIC:
        plan_hash, plan_step = struct.unpack_from("<QI", data, at + 8)
        at += _PLAN_BYTES
    n_streams, n_cells = struct.unpack_from("<II", data, at)
    assert n_streams == 1
    at += 8
    positions = []
    for _ in range(n_cells):
        position, n_sequences = struct.unpack_from("<iI", data, at)
        positions.append(position)
        at += 8 + 4 * n_sequences
    _, n_layers = struct.unpack_from("<II", data, at)
    at += 8
    order = np.argsort(positions)
    keys = []
    for _ in range(n_layers):
        kind, row_size = struct.unpack_from("<iQ", data, at)
        at += 12
        rows = np.frombuffer(data, np.uint8, n_cells * row_size, at).reshape(n_cells, row_size)
        at += n_cells * row_size
        keys.append(dequantize(rows, GGMLQuantizationType(kind)).astype(np.float64)[order])
    return SavedSequence(plan_hash, plan_step, tuple(sorted(positions)), tuple(keys))
