"""The header of a safetensors file, read and checked without reading a weight.

A file is eight bytes with the length of the header, the header (a JSON object: for each tensor its type, its
shape and where its data lies), and the data, without gaps, to the end of the file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeGuard

from ropewalk_convert.checkpoint_reading import AGAIN, file_size, json_object, unreadable
from ropewalk_convert.errors import SourceError

_LENGTH_BYTES = 8
_LARGEST_HEADER = 100_000_000  # the limit of the safetensors library
_LARGEST_NUMBER = 2**63
_METADATA = "__metadata__"

BITS: Mapping[str, int] = MappingProxyType(
    {
        **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
        **dict.fromkeys(("F32", "I32", "U32"), 32),
        **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
        **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
        **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
        "F4": 4,
    }
)
"""Bits of a number, by the format's names of the types."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as a safetensors file's header says it.

    Attributes:
        name: the checkpoint's name for it.
        dtype: one of `BITS`.
        shape: slowest dimension first.
        start: where its data starts, bytes from the start of the data.
        end: where its data ends.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def n_numbers(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class SafetensorsHeader:
    """What a file holds.

    Attributes:
        path: the file.
        file_bytes: its size.
        tensors: in the order of their data.
    """

    path: Path
    file_bytes: int
    tensors: tuple[StoredTensor, ...]


def read_safetensors_header(path: Path) -> SafetensorsHeader:
    """Read and check the header of a safetensors file.

    Raises:
        SourceError: missing, unreadable, no safetensors file, damaged, or not as long as its header says.
    """
    size = file_size(path)
    entries, data_bytes = _read_entries(path, size)
    tensors = sorted(
        (_tensor(path, name, entry) for name, entry in entries.items() if name != _METADATA),
        key=lambda tensor: (tensor.start, tensor.end),
    )
    end = 0
    for tensor in tensors:
        if tensor.start != end:
            how = "overlaps the one before" if tensor.start < end else "leaves a gap before it"
            raise _damaged(path, f"the data of {tensor.name} {how}")
        end = tensor.end
    if end != data_bytes:
        how = "is cut short" if end > data_bytes else "is longer than it should be"
        raise SourceError(
            f"{path} {how}: it has {size:,} bytes and its header says {size - data_bytes + end:,}; {AGAIN}"
        )
    return SafetensorsHeader(path, size, tuple(tensors))


def _read_entries(path: Path, size: int) -> tuple[dict[str, object], int]:
    """The header's entries by name, and the bytes that follow it."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            if size < _LENGTH_BYTES or length > _LARGEST_HEADER:
                raise SourceError(f"{path} is not a safetensors file ({size:,} bytes); {AGAIN}")
            if length > size - _LENGTH_BYTES:
                raise SourceError(
                    f"{path} is cut short: it has {size:,} bytes and its header alone needs "
                    f"{_LENGTH_BYTES + length:,}; {AGAIN}"
                )
            raw = file.read(length)
    except OSError as error:
        raise unreadable(path, error) from error
    return json_object(raw, path, "header"), size - _LENGTH_BYTES - length


def _tensor(path: Path, name: str, entry: object) -> StoredTensor:
    if not isinstance(entry, dict):
        raise _damaged(path, f"what it says of {name} is no object")
    dtype, shape, offsets = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in BITS:
        raise _damaged(path, f"{name} has the unknown type {str(dtype)[:40]}")
    if not _are_whole(shape):
        raise _damaged(path, f"the shape of {name} is no list of sizes")
    if not _are_whole(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _damaged(path, f"{name} has no place in the data")
    tensor = StoredTensor(name, dtype, tuple(shape), *offsets)
    if tensor.n_numbers * BITS[dtype] != 8 * (tensor.end - tensor.start):
        raise _damaged(path, f"{name} has not as many bytes as its type and shape need")
    return tensor


def _are_whole(values: object) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(
        type(value) is int and 0 <= value < _LARGEST_NUMBER for value in values
    )


def _damaged(path: Path, what: str) -> SourceError:
    return SourceError(f"{path} is damaged ({what}); {AGAIN}")
