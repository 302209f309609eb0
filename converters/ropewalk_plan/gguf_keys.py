"""The one way plans read a model's file: keys by name and small F32 tensors, from either kind of reader."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType, GGUFReader

from ropewalk_plan.gguf_header import GgufError, GgufHeader
from ropewalk_plan.plan import PlanError


class GgufKeys(Protocol):
    """Keys and small tensors of a GGUF file."""

    def value(self, key: str) -> object | None:
        """The value of `key`, arrays as lists; None where there is no such key."""

    def types(self, key: str) -> tuple[int, ...]:
        """GGUF's number of the type of `key`, and for an array that of its elements; () for no such key."""

    def has_tensor(self, name: str) -> bool:
        """Whether there is a tensor of this name."""

    def tensor_f32(self, name: str) -> npt.NDArray[np.float32] | None:
        """The numbers of an F32 tensor, flat; None where there is none of that name."""


class _ReaderKeys:
    """`GgufKeys` over a `gguf.GGUFReader`."""

    def __init__(self, reader: GGUFReader) -> None:
        self._reader = reader

    def value(self, key: str) -> object | None:
        entry = self._reader.get_field(key)
        return None if entry is None else entry.contents()

    def types(self, key: str) -> tuple[int, ...]:
        entry = self._reader.get_field(key)
        return () if entry is None else tuple(int(kind) for kind in entry.types[:2])

    def has_tensor(self, name: str) -> bool:
        return any(tensor.name == name for tensor in self._reader.tensors)

    def tensor_f32(self, name: str) -> npt.NDArray[np.float32] | None:
        for tensor in self._reader.tensors:
            if tensor.name == name:
                if tensor.tensor_type != GGMLQuantizationType.F32:
                    raise GgufError(f"the tensor {name} is not F32, as llama.cpp requires it to be")
                return np.array(tensor.data, dtype=np.float32).reshape(-1)
        return None


def keys_of(reader: GgufHeader | GGUFReader) -> GgufKeys:
    """`GgufKeys` over a header read by `GgufHeader.read` or over a `gguf.GGUFReader`."""
    return reader if isinstance(reader, GgufHeader) else _ReaderKeys(reader)


def number(keys: GgufKeys, key: str) -> float | None:
    """The number under `key` (of an array, its first), or None where the file has no such key.

    Raises:
        PlanError: the value is not a number.
    """
    value = keys.value(key)
    if isinstance(value, list):
        value = value[0] if value else None
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise PlanError(f"the key {key} holds {value!r}; it must hold a number")
    return value


def integer(keys: GgufKeys, key: str) -> int | None:
    """The whole number under `key`, or None; see `number`."""
    value = number(keys, key)
    return None if value is None else int(value)


def text(keys: GgufKeys, key: str) -> str | None:
    """The string under `key`, or None where the file has no such key.

    Raises:
        PlanError: the value is not a string.
    """
    value = keys.value(key)
    if value is not None and not isinstance(value, str):
        raise PlanError(f"the key {key} holds {value!r}; it must hold a string")
    return value
