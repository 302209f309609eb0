"""What llama.cpp's quantized K and V caches make of numbers, by the types' published definition in `gguf`.

Where a head has a multiple of 64 numbers llama.cpp turns it by a Hadamard matrix before it is quantized, q
likewise, so that scores stay what they were; what comes out of the values is turned back. Products with
quantized keys take q in Q8_0.
"""

from __future__ import annotations

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize

from reference_memory import Round, Rounding
from reference_transformer import Float64

HADAMARD_SIZE = 64


def hadamard(size: int = HADAMARD_SIZE) -> Float64:
    """The orthonormal Walsh-Hadamard matrix in Sylvester's order; its own inverse."""
    matrix = np.ones((1, 1))
    while len(matrix) < size:
        matrix = np.kron(np.array([[1.0, 1.0], [1.0, -1.0]]), matrix)
    return np.asarray(matrix / np.sqrt(size))


def rounded(kind: GGMLQuantizationType, turned: bool) -> Round:
    """What is left of vectors, [..., head_dim], stored as `kind`, turned by the matrix before or not."""
    turn = hadamard() if turned else np.eye(HADAMARD_SIZE)

    def store(x: Float64) -> Float64:
        rows = (x.reshape(-1, HADAMARD_SIZE) @ turn).astype(np.float32)
        kept = dequantize(quantize(rows, kind), kind).astype(np.float64)
        return np.asarray((kept @ turn).reshape(x.shape))

    return store


def cache_rounding(key: GGMLQuantizationType, value: GGMLQuantizationType, turned: bool) -> Rounding:
    """Of a cache of these types; float types are not turned."""
    q8_0 = GGMLQuantizationType.Q8_0
    exact = GGMLQuantizationType.F32
    return Rounding(
        key=rounded(key, turned),
        query=rounded(q8_0, turned),
        value=rounded(value, turned and value is not exact),
    )
