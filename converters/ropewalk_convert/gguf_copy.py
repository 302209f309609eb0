"""A GGUF file copied with some keys and small tensors changed; weights pass through byte for byte.

Keys that stay are copied as the bytes they are, whatever their type, in their order; changed ones take the
place of those they replace, new ones follow. The data section is copied as one block, so every tensor
keeps its offset; a replaced tensor is patched where it lies, a new one is appended.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import numpy as np
from gguf import GGMLQuantizationType

from ropewalk_convert.errors import SourceError
from ropewalk_convert.gguf_encoding import encoded_bytes_key, encoded_key, encoded_vector_info
from ropewalk_convert.pieces import Copied, New, Piece, Zeros, merged, total_bytes, write_pieces
from ropewalk_convert.undo import UNDO_KEY, encode_undo, undo_of
from ropewalk_plan.gguf_header import MAGIC, GgufHeader, padded
from ropewalk_plan.metadata import FileChanges


class GgufCopy:
    """The copy of one file with `changes`, laid out before a byte is written.

    Attributes:
        total_bytes: the size that the copy will have.
    """

    def __init__(self, source: GgufHeader, changes: FileChanges, *, undo: bool = False) -> None:
        """Lay out the copy.

        Args:
            source: the file to copy.
            changes: what is different in the copy.
            undo: keep a record in the copy by which the source is made again (see `undo`).

        Raises:
            SourceError: a tensor to be replaced has another type or size than its replacement.
        """
        self._source = source
        self._header_bytes = min(source.data_start, source.n_bytes)
        self._data_end = max(self._header_bytes, min(source.data_end, source.n_bytes))
        self._patches: dict[int, bytes] = {}
        self._appended: list[tuple[str, int, bytes]] = []
        for name, numbers in changes.tensors.items():
            self._place(name, np.asarray(numbers, dtype="<f4").tobytes())
        self._pieces = self._with_undo(changes) if undo else self._laid_out(changes)
        self.total_bytes = total_bytes(self._pieces)

    def write(self, write: Callable[[memoryview], object]) -> Iterator[int]:
        """Write the copy in chunks; the weights are never held in memory.

        Args:
            write: takes the next bytes of the copy, which change after it returns.

        Yields:
            The bytes written so far, now and then and at the end.
        """
        return write_pieces(self._pieces, self._source.path, write)

    def _with_undo(self, changes: FileChanges) -> list[Piece]:
        """The layout with a record of itself in it: its size comes first, then what it says."""
        record = b""
        for _ in range(2):
            layout = self._laid_out(changes, record)
            undo = undo_of(layout, self._source.path, self._source.n_bytes, self._header_bytes)
            record = encode_undo(undo)
        return self._laid_out(changes, record)

    def _laid_out(self, changes: FileChanges, record: bytes | None = None) -> list[Piece]:
        keys = self._keys(changes)
        if record is not None:
            keys.append(New(encoded_bytes_key(UNDO_KEY, record)))
        infos = list(self._infos())
        counts = struct.pack("<IQQ", self._source.version, len(infos), len(keys))
        header = [New(MAGIC + counts), *merged([*keys, *infos])]
        data = [*merged(self._patched_data()), *self._appended_data()]
        tail = self._tail() if record is not None else []
        return [*header, self._padding(header), *data, self._padding(data), *tail]

    def _keys(self, changes: FileChanges) -> list[Piece]:
        changed = {entry.key: New(encoded_key(entry)) for entry in changes.keys}
        keys: list[Piece] = []
        for name, span in self._source.keys.items():
            if name in changed:
                keys.append(changed.pop(name))
            elif name not in changes.dropped and name != UNDO_KEY:  # one of no use comes back with the rest
                keys.append(Copied(span.start, span.end - span.start))
        return [*keys, *changed.values()]

    def _infos(self) -> Iterator[Piece]:
        for tensor in self._source.tensors.values():
            yield Copied(tensor.info_start, tensor.info_end - tensor.info_start)
        for name, offset, raw in self._appended:
            yield New(encoded_vector_info(name, len(raw) // 4, offset))

    def _patched_data(self) -> Iterator[Piece]:
        """The source's data section with the patches in place."""
        at = self._header_bytes
        for offset, raw in sorted(self._patches.items()):
            start = self._source.data_start + offset
            yield Copied(at, start - at)
            yield New(raw)
            at = start + len(raw)
        yield Copied(at, self._data_end - at)

    def _appended_data(self) -> Iterator[Piece]:
        written = self._data_end - self._header_bytes
        for _, offset, raw in self._appended:
            yield Zeros(offset - written)
            yield New(raw)
            written = offset + len(raw)

    def _padding(self, pieces: list[Piece]) -> Piece:
        """Zeros up to the next multiple of the alignment."""
        n_bytes = total_bytes(pieces)
        return Zeros(padded(n_bytes, self._source.alignment) - n_bytes)

    def _tail(self) -> list[Piece]:
        """What follows the source's last tensor, where it is more than the record should hold."""
        n_bytes = self._source.n_bytes - self._data_end
        return [Copied(self._data_end, n_bytes)] if n_bytes > self._source.alignment else []

    def _place(self, name: str, raw: bytes) -> None:
        present = self._source.tensors.get(name)
        if present is None:
            last = self._appended[-1] if self._appended else None
            end = last[1] + len(last[2]) if last else self._data_end - self._header_bytes
            self._appended.append((name, padded(end, self._source.alignment), raw))
        elif present.type == GGMLQuantizationType.F32 and present.n_bytes == len(raw):
            self._patches[present.offset] = raw
        else:
            raise SourceError(
                f"{self._source.path}: its tensor {name} has another type or size than the plan's factors; "
                "choose a method that llama.cpp's other keys can say, or convert the model again"
            )
