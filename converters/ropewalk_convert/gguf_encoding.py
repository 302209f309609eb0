"""GGUF's bytes: keys and entries of the tensor table, as they stand in a file."""

from __future__ import annotations

import struct

from gguf import GGMLQuantizationType, GGUFValueType

from ropewalk_plan.metadata import KeyValue

_SCALAR_FORMATS = {
    GGUFValueType.UINT8: "<B",
    GGUFValueType.INT8: "<b",
    GGUFValueType.UINT16: "<H",
    GGUFValueType.INT16: "<h",
    GGUFValueType.UINT32: "<I",
    GGUFValueType.INT32: "<i",
    GGUFValueType.UINT64: "<Q",
    GGUFValueType.INT64: "<q",
    GGUFValueType.FLOAT32: "<f",
    GGUFValueType.FLOAT64: "<d",
    GGUFValueType.BOOL: "<?",
}


def encoded_key(entry: KeyValue) -> bytes:
    """A key with its type and value."""
    if isinstance(entry.value, tuple):
        head = struct.pack("<IIQ", GGUFValueType.ARRAY, entry.type, len(entry.value))
        return _string(entry.key) + head + b"".join(_scalar(entry.type, v) for v in entry.value)
    return _string(entry.key) + struct.pack("<I", entry.type) + _scalar(entry.type, entry.value)


def encoded_bytes_key(key: str, raw: bytes) -> bytes:
    """A key whose value is an array of U8."""
    return _string(key) + struct.pack("<IIQ", GGUFValueType.ARRAY, GGUFValueType.UINT8, len(raw)) + raw


def encoded_vector_info(name: str, n_elements: int, offset: int) -> bytes:
    """The entry of an F32 tensor of one dimension; `offset` is in bytes from the start of the data."""
    return _string(name) + struct.pack("<IQIQ", 1, n_elements, GGMLQuantizationType.F32, offset)


def _scalar(value_type: GGUFValueType, value: object) -> bytes:
    if value_type is GGUFValueType.STRING:
        return _string(str(value))
    return struct.pack(_SCALAR_FORMATS[value_type], value)


def _string(text: str) -> bytes:
    raw = text.encode("utf-8")
    return struct.pack("<Q", len(raw)) + raw
