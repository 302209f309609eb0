"""How large the weights become when llama.cpp's converter writes them: an upper bound, from names and shapes.

Most tensors take the type that was asked for. Vectors, norms, routers, convolutions and the like stay F32.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from ropewalk_convert.checkpoint_quantization import Packing
from ropewalk_convert.safetensors_header import StoredTensor

_BITS_AND_ROWS: Mapping[str, tuple[float, int]] = MappingProxyType(
    {
        "auto": (16, 1),  # the checkpoint's own 16-bit type, else F16
        "f32": (32, 1),
        "f16": (16, 1),
        "bf16": (16, 1),
        "q8_0": (8 * 34 / 32, 32),
        "tq1_0": (8 * 54 / 256, 256),
        "tq2_0": (8 * 66 / 256, 256),
    }
)
"""Bits of a weight, and how many weights of a row make a block; rows of other lengths become F16."""

_TERNARY = ("tq1_0", "tq2_0")
_F32, _F16 = 32, 16
_FOUR_BIT = 8 * 36 / 64  # NVFP4 with its scales; MXFP4 takes 8 * 17 / 32
_SMALL = 2**20
_STAYS_F32 = re.compile(
    r"norm|router|gate\.|conv|pos|wpe|token_type|time_|maa|lerp|altup|correct|predict|indexer|lora|hc_"
)
_EMBEDDINGS = re.compile(r"embed|wte|lm_head|output\.weight|altup|laurel")
_OUTPUT = re.compile(r"embed|lm_head")
"""The embeddings too, which may serve as output."""

_ENTRY_BYTES = 256
"""Of a tensor besides its data: name, shape, type, place, and what aligns the next."""


def converted_weights(
    tensors: Iterable[StoredTensor], packing: Packing, outtype: str, *, wide_output: bool = False
) -> int:
    """Bytes of the tensors in a GGUF file, at most.

    Args:
        tensors: the checkpoint's.
        packing: how quantized ones hold weights.
        outtype: the type that was asked for.
        wide_output: whether the output tensor stays in F32.

    Raises:
        ValueError: the converter writes no such type.
    """
    if outtype not in _BITS_AND_ROWS:
        raise ValueError(f"{outtype} is no type that the converter writes: {', '.join(_BITS_AND_ROWS)}")
    size = 0
    for tensor in tensors:
        is_wide = wide_output and _OUTPUT.search(tensor.name) is not None
        bits = _F32 if is_wide else _bits(tensor, packing, outtype)
        size += int(packing.weights(tensor) * bits / 8) + 1 + _ENTRY_BYTES
    return size


def _bits(tensor: StoredTensor, packing: Packing, outtype: str) -> float:
    if packing.keeps(tensor):
        return _FOUR_BIT
    unnamed = not tensor.name.endswith("weight") and tensor.n_numbers < _SMALL
    if len(tensor.shape) < 2 or unnamed or _STAYS_F32.search(tensor.name):
        return _F32
    bits, block = _BITS_AND_ROWS[outtype]
    if tensor.shape[-1] % block or (outtype in _TERNARY and _EMBEDDINGS.search(tensor.name)):
        return max(bits, _F16)
    return bits
