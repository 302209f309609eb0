"""A GGUF file copied with some keys and small tensors changed; weights pass through byte for byte.

Keys that stay are copied as the bytes they are, whatever their type, in their order; changed ones take the
place of those they replace, new ones follow. The data section is copied as one block, so every tensor
keeps its offset; a replaced tensor is patched where it lies, a new one is appended.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from io import BufferedIOBase, RawIOBase
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFValueType

from ropewalk_convert.errors import SourceError
from ropewalk_plan.gguf_header import MAGIC, GgufHeader, padded
from ropewalk_plan.metadata import FileChanges, KeyValue

_CHUNK = 8 << 20
_SCALAR_FORMATS = {GGUFValueType.UINT32: "<I", GGUFValueType.FLOAT32: "<f", GGUFValueType.BOOL: "<?"}


class GgufCopy:
    """The copy of one file with `changes`, laid out before a byte is written.

    Attributes:
        total_bytes: the size that the copy will have.
    """

    def __init__(self, source: GgufHeader, changes: FileChanges) -> None:
        """Lay out the copy.

        Raises:
            SourceError: a tensor to be replaced has another type or size than its replacement.
        """
        self._source = source
        self._data_bytes = source.data_end - source.data_start
        self._patches: dict[int, bytes] = {}
        self._appended: list[tuple[str, int, bytes]] = []
        for name, numbers in changes.tensors.items():
            self._place(name, np.asarray(numbers, dtype="<f4").tobytes())
        self._header = self._make_header(changes)
        last = self._appended[-1] if self._appended else None
        data_bytes = last[1] + len(last[2]) if last else self._data_bytes
        self.total_bytes = len(self._header) + padded(data_bytes, source.alignment)

    def write(self, write: Callable[[bytes], object]) -> Iterator[int]:
        """Write the copy in chunks; the weights are never held in memory.

        Args:
            write: takes the next bytes of the copy.

        Yields:
            The bytes written so far, after every chunk.
        """
        done = 0
        for chunk in self._chunks():
            write(chunk)
            done += len(chunk)
            yield done

    def _chunks(self) -> Iterator[bytes]:
        yield self._header
        written = 0
        for chunk in self._data_chunks():
            yield chunk
            written += len(chunk)
        for _, offset, raw in self._appended:
            yield bytes(offset - written) + raw
            written = offset + len(raw)
        yield bytes(self.total_bytes - len(self._header) - written)

    def _data_chunks(self) -> Iterator[bytes]:
        """The source's data section with the patches in place."""
        if not self._data_bytes:
            return
        start = self._source.data_start
        with self._source.path.open("rb", buffering=0) as file:
            for begin in range(0, self._data_bytes, _CHUNK):
                end = min(begin + _CHUNK, self._data_bytes)
                yield self._patched(_read(file, self._source.path, start + begin, start + end), begin)

    def _patched(self, chunk: bytes, begin: int) -> bytes:
        end = begin + len(chunk)
        for offset, raw in self._patches.items():
            low, high = max(begin, offset), min(end, offset + len(raw))
            if low < high:
                replaced = raw[low - offset : high - offset]
                chunk = chunk[: low - begin] + replaced + chunk[high - begin :]
        return chunk

    def _place(self, name: str, raw: bytes) -> None:
        present = self._source.tensors.get(name)
        if present is None:
            last = self._appended[-1] if self._appended else None
            end = last[1] + len(last[2]) if last else self._data_bytes
            self._appended.append((name, padded(end, self._source.alignment), raw))
        elif present.type == GGMLQuantizationType.F32 and present.n_bytes == len(raw):
            self._patches[present.offset] = raw
        else:
            raise SourceError(
                f"{self._source.path}: its tensor {name} has another type or size than the plan's factors; "
                "choose a method that llama.cpp's other keys can say, or convert the model again"
            )

    def _make_header(self, changes: FileChanges) -> bytes:
        keys = self._keys(changes)
        infos = [
            *self._present_infos(),
            *(_tensor_info(name, len(raw) // 4, offset) for name, offset, raw in self._appended),
        ]
        counts = struct.pack("<IQQ", self._source.version, len(infos), len(keys))
        header = b"".join([MAGIC, counts, *keys, *infos])
        return header + bytes(padded(len(header), self._source.alignment) - len(header))

    def _keys(self, changes: FileChanges) -> list[bytes]:
        changed = {entry.key: _encode(entry) for entry in changes.keys}
        keys = []
        path = self._source.path
        with path.open("rb") as file:
            for name, span in self._source.keys.items():
                if name in changed:
                    keys.append(changed.pop(name))
                elif name not in changes.dropped:
                    keys.append(_read(file, path, span.start, span.end))
        return [*keys, *changed.values()]

    def _present_infos(self) -> Iterator[bytes]:
        path = self._source.path
        with path.open("rb") as file:
            for tensor in self._source.tensors.values():
                yield _read(file, path, tensor.info_start, tensor.info_end)


def _read(file: RawIOBase | BufferedIOBase, path: Path, start: int, end: int) -> bytes:
    """The bytes from `start` to `end`; where a file has got shorter, mapping it would crash the process.

    Raises:
        SourceError: the file ends before `end`, or cannot be read.
    """
    try:
        file.seek(start)
        data = file.read(end - start) or b""
        while len(data) < end - start:  # a plain read may bring less than there is
            more = file.read(end - start - len(data))
            if not more:
                raise SourceError(
                    f"{path} changed while it was copied; copy it again when nothing writes to it"
                )
            data += more
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror or error}); check its disk") from error
    return data


def _tensor_info(name: str, n_elements: int, offset: int) -> bytes:
    return _string(name) + struct.pack("<IQIQ", 1, n_elements, GGMLQuantizationType.F32, offset)


def _encode(entry: KeyValue) -> bytes:
    """A key with its type and value, as GGUF stores it."""
    if isinstance(entry.value, tuple):
        head = struct.pack("<IIQ", GGUFValueType.ARRAY, entry.type, len(entry.value))
        return _string(entry.key) + head + b"".join(_scalar(entry.type, v) for v in entry.value)
    return _string(entry.key) + struct.pack("<I", entry.type) + _scalar(entry.type, entry.value)


def _scalar(value_type: GGUFValueType, value: object) -> bytes:
    if value_type is GGUFValueType.STRING:
        return _string(str(value))
    return struct.pack(_SCALAR_FORMATS[value_type], value)


def _string(text: str) -> bytes:
    raw = text.encode("utf-8")
    return struct.pack("<Q", len(raw)) + raw
