"""Finds where everything lies in a GGUF file, in one pass over its header that reads no weights.

Damage, whatever it is, is one `GgufError`.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType

from ropewalk_plan.plan import PlanError

MAGIC = b"GGUF"
READABLE_VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32

_SCALAR_FORMATS: dict[int, str] = {
    GGUFValueType.UINT8: "<B",
    GGUFValueType.INT8: "<b",
    GGUFValueType.UINT16: "<H",
    GGUFValueType.INT16: "<h",
    GGUFValueType.UINT32: "<I",
    GGUFValueType.INT32: "<i",
    GGUFValueType.FLOAT32: "<f",
    GGUFValueType.BOOL: "<?",
    GGUFValueType.UINT64: "<Q",
    GGUFValueType.INT64: "<q",
    GGUFValueType.FLOAT64: "<d",
}
_MAX_ARRAY_DEPTH = 8
_MAX_DIMENSIONS = 8
_BIG_ENDIAN_VERSION_MASK = 0xFFFF


class GgufError(PlanError):
    """A file that cannot be read as GGUF; the message names the file and the remedy."""


@dataclass(frozen=True)
class KeySpan:
    """One key: its value's type and the bytes from its name to the end of its value."""

    name: str
    type: int
    start: int
    value_start: int
    end: int


@dataclass(frozen=True)
class TensorSpan:
    """One tensor.

    Attributes:
        name: its name.
        shape: dimensions, fastest first (ggml's order).
        type: ggml's number for the element type.
        offset: bytes from the start of the data section.
        n_bytes: size of its data; None for an element type that the `gguf` package does not know.
        info_start: where its entry in the tensor table starts, in bytes from the start of the file.
        info_end: where that entry ends.
    """

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int
    n_bytes: int | None
    info_start: int
    info_end: int


@dataclass(frozen=True)
class Layout:
    """Where everything lies in one file; the attributes are those of `GgufHeader`."""

    version: int
    alignment: int
    keys: dict[str, KeySpan]
    tensors: dict[str, TensorSpan]
    data_start: int
    data_end: int
    n_bytes: int


class Parser:
    """One pass over the header; every step checks that it stays within the file."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        """Begin at the start of `data`, which is all of the file at `path`."""
        self.path = path
        self.data = data
        self.size = len(data)
        self.at = 0

    def layout(self, *, whole: bool = True) -> Layout:
        """The layout of the file; raises `GgufError`.

        Args:
            whole: whether all tensors' data must be there.
        """
        if self.data[: len(MAGIC)] != MAGIC:
            raise GgufError(f"{self.path} is not a GGUF file; name a file that llama.cpp can load")
        self.at = len(MAGIC)
        version = self._version()
        n_tensors, n_keys = self._number("<Q"), self._number("<Q")
        keys: dict[str, KeySpan] = {}
        for span in self._keys(n_keys):
            if span.name in keys:
                raise self._damaged(f"it has the key {span.name} twice")
            keys[span.name] = span
        tensors: dict[str, TensorSpan] = {}
        for tensor in self._tensors(n_tensors):
            if tensor.name in tensors:
                raise self._damaged(f"it has the tensor {tensor.name} twice")
            tensors[tensor.name] = tensor
        alignment = self._alignment(keys.get("general.alignment"))
        data_start = padded(self.at, alignment)
        ends = [data_start + t.offset + (t.n_bytes or 0) for t in tensors.values()]
        needed = max(ends, default=self.at)
        if needed > self.size and whole:
            raise GgufError(
                f"{self.path} is cut short: it has {self.size:,} bytes and its tensors need {needed:,}; "
                "fetch or copy the file again"
            )
        unknown_sizes = any(t.n_bytes is None for t in tensors.values())
        return Layout(
            version=version,
            alignment=alignment,
            keys=keys,
            tensors=tensors,
            data_start=data_start,
            data_end=max(data_start, self.size if unknown_sizes else needed),
            n_bytes=self.size,
        )

    def _version(self) -> int:
        version = self._number("<I")
        if version and version & _BIG_ENDIAN_VERSION_MASK == 0:
            raise GgufError(f"{self.path} is a big-endian GGUF file; convert it to little-endian first")
        if version not in READABLE_VERSIONS:
            raise GgufError(
                f"{self.path} is GGUF version {version}; versions "
                f"{' and '.join(map(str, READABLE_VERSIONS))} can be read: convert the model again"
            )
        return version

    def _keys(self, count: int) -> Iterator[KeySpan]:
        for _ in range(count):
            start = self.at
            name = self._string()
            value_type = self._number("<I")
            value_start = self.at
            self._skip_value(value_type, depth=0)
            yield KeySpan(name, value_type, start, value_start, self.at)

    def _tensors(self, count: int) -> Iterator[TensorSpan]:
        for _ in range(count):
            start = self.at
            name = self._string()
            n_dimensions = self._number("<I")
            if n_dimensions > _MAX_DIMENSIONS:
                raise self._damaged(f"the tensor {name} has {n_dimensions} dimensions")
            shape = tuple(self._number("<Q") for _ in range(n_dimensions))
            element_type, offset = self._number("<I"), self._number("<Q")
            yield TensorSpan(name, shape, element_type, offset, _n_bytes(shape, element_type), start, self.at)

    def _alignment(self, span: KeySpan | None) -> int:
        if span is None:
            return DEFAULT_ALIGNMENT
        value = decode(self.data[span.value_start : span.end], span.type)
        if not isinstance(value, int) or value <= 0 or value & (value - 1):
            raise self._damaged(f"general.alignment is {value}, not a power of two")
        return value

    def _skip_value(self, value_type: int, depth: int) -> None:
        if value_type in _SCALAR_FORMATS:
            self._advance(struct.calcsize(_SCALAR_FORMATS[value_type]))
        elif value_type == GGUFValueType.STRING:
            self._advance(self._number("<Q"))
        elif value_type == GGUFValueType.ARRAY and depth < _MAX_ARRAY_DEPTH:
            element_type, count = self._number("<I"), self._number("<Q")
            if element_type in _SCALAR_FORMATS:
                self._advance(count * struct.calcsize(_SCALAR_FORMATS[element_type]))
            elif element_type == GGUFValueType.STRING:
                self._skip_strings(count)
            else:
                for _ in range(count):
                    self._skip_value(element_type, depth + 1)
        else:
            raise self._damaged(f"it has a value of the unknown type {value_type}")

    def _skip_strings(self, count: int) -> None:
        """Step over `count` strings; a vocabulary has hundreds of thousands, so without a call for each."""
        length_at, data, at = struct.Struct("<Q").unpack_from, self.data, self.at
        last_start = self.size - 8
        for _ in range(count):
            if at > last_start:
                break
            at += 8 + length_at(data, at)[0]
        else:
            self._advance(at - self.at)
            return
        self._advance(self.size - self.at + 1)  # the strings run past the end

    def _string(self) -> str:
        start = self.at + 8
        self._advance(self._number("<Q"))
        try:
            return self.data[start : self.at].decode("utf-8")
        except UnicodeDecodeError:
            raise self._damaged("a name in it is not UTF-8") from None

    def _number(self, form: str) -> int:
        start = self.at
        self._advance(struct.calcsize(form))
        return int(struct.unpack_from(form, self.data, start)[0])

    def _advance(self, n_bytes: int) -> None:
        if n_bytes > self.size - self.at:
            raise GgufError(
                f"{self.path} is cut short or damaged: its header runs past its end ({self.size:,} bytes); "
                "fetch or copy the file again"
            )
        self.at += n_bytes

    def _damaged(self, what: str) -> GgufError:
        return GgufError(f"{self.path} is damaged ({what}); fetch or copy the file again")


def padded(position: int, alignment: int) -> int:
    """The first multiple of `alignment` at or after `position`."""
    return -(-position // alignment) * alignment


def _n_bytes(shape: tuple[int, ...], element_type: int) -> int | None:
    try:
        block, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(element_type)]
    except (ValueError, KeyError):
        return None
    elements = 1
    for dimension in shape:
        elements *= dimension
    return elements // int(block) * int(block_bytes)


def decode(raw: bytes, value_type: int) -> object:
    """A value as Python objects, arrays as lists; `raw` holds it, whole."""
    value, _ = _decode_at(raw, 0, value_type)
    return value


def _decode_at(raw: bytes, at: int, value_type: int) -> tuple[object, int]:
    if value_type in _SCALAR_FORMATS:
        form = _SCALAR_FORMATS[value_type]
        return struct.unpack_from(form, raw, at)[0], at + struct.calcsize(form)
    if value_type == GGUFValueType.STRING:
        (length,) = struct.unpack_from("<Q", raw, at)
        end = at + 8 + length
        return raw[at + 8 : end].decode("utf-8", errors="replace"), end
    element_type, count = struct.unpack_from("<IQ", raw, at)
    at += 12
    elements = []
    for _ in range(count):
        element, at = _decode_at(raw, at, element_type)
        elements.append(element)
    return elements, at
