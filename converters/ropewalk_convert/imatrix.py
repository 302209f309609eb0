"""Importance matrices: for each of a model's matrices, how much its inputs mattered in some text.

llama-imatrix writes them in two forms. The newer is a GGUF file with a pair of tensors for each matrix:
`NAME.in_sum2`, the sums of the squared inputs (columns x experts), and `NAME.counts`, how many inputs were
summed for each expert. The older has no mark: 32-bit little-endian integers and floats, for each matrix its
name, the number of calls and, for each column, the mean square times that number; then, optionally, the
number of chunks and the name of the text. What the quantizer takes are the means.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from ropewalk_convert.errors import SourceError
from ropewalk_plan.gguf_header import MAGIC, GgufError, GgufHeader

_SUMS, _COUNTS = ".in_sum2", ".counts"
_DATASETS, _CHUNK_COUNT, _CHUNK_SIZE = "imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size"
_LONGEST_NAME = 4096

Importance = npt.NDArray[np.float32]
"""Mean squares of a matrix's inputs, flat: its columns, expert after expert."""


@dataclass(frozen=True)
class ImportanceMatrix:
    """A file of llama-imatrix.

    Attributes:
        path: the file.
        entries: by the name of the matrix.
        dataset: the name of the text's file, without folders; "" where it is not known.
        n_chunks: pieces of the text that were read; 0 where it is not known.
    """

    path: Path
    entries: dict[str, Importance]
    dataset: str
    n_chunks: int


def read_imatrix(path: Path) -> ImportanceMatrix:
    """Read an importance matrix in either form.

    Raises:
        SourceError: it is missing, damaged, or something else.
    """
    try:
        with path.open("rb") as file:
            is_gguf = file.read(len(MAGIC)) == MAGIC
            if not is_gguf:
                file.seek(0)
                matrix = _read_legacy(path, file)
        if is_gguf:
            matrix = _read_gguf(path)
    except FileNotFoundError:
        raise SourceError(f"{path} does not exist; check the path of the importance matrix") from None
    except IsADirectoryError:
        raise SourceError(f"{path} is a folder; name a file that llama-imatrix has written") from None
    except OSError as error:
        raise SourceError(
            f"{path} cannot be read ({error.strerror or error}); check its permissions"
        ) from error
    for name, values in matrix.entries.items():
        if not np.isfinite(values).all():
            raise _unusable(path, f"its numbers for {name} are not finite")
        if (values < 0).any():
            raise _unusable(path, f"its numbers for {name} are means of squares, and some are negative")
    return matrix


def _read_gguf(path: Path) -> ImportanceMatrix:
    try:
        header = GgufHeader.read(path)
        if any(key not in header.keys for key in (_DATASETS, _CHUNK_COUNT, _CHUNK_SIZE)):
            raise _unusable(path, "it lacks llama-imatrix's keys")
        entries = {
            name.removesuffix(_SUMS): _means(header, name.removesuffix(_SUMS))
            for name in header.tensors
            if name.endswith(_SUMS)
        }
    except GgufError as error:
        raise SourceError(str(error)) from error
    if not entries:
        raise _unusable(path, "it has no tensors of sums")
    datasets, n_chunks = header.value(_DATASETS), header.value(_CHUNK_COUNT)
    first = datasets[0] if isinstance(datasets, list) and datasets else ""
    return ImportanceMatrix(path, entries, _file_name(first), n_chunks if isinstance(n_chunks, int) else 0)


def _means(header: GgufHeader, name: str) -> Importance:
    """The mean squares of one matrix; 1 for experts that the text never reached."""
    sums, counts = header.tensor_f32(name + _SUMS), header.tensor_f32(name + _COUNTS)
    if sums is None or counts is None or counts.size == 0 or sums.size == 0 or sums.size % counts.size:
        raise _unusable(header.path, f"its sums and counts for {name} do not belong together")
    each = np.rint(counts)[:, None].astype(np.float32)
    table = sums.reshape(counts.size, -1)
    means = np.where(each > 0, table / np.where(each > 0, each, np.float32(1)), np.float32(1))
    return means.astype(np.float32).ravel()


def _read_legacy(path: Path, file: BinaryIO) -> ImportanceMatrix:
    reader = _LegacyReader(path, file)
    n_entries = reader.integer()
    if n_entries < 1:
        raise reader.damaged()
    entries = dict(reader.entry() for _ in range(n_entries))
    if reader.at_end():
        return ImportanceMatrix(path, entries, "", 0)
    n_chunks = max(0, reader.integer())
    dataset = "" if reader.at_end() else reader.text(reader.integer())
    return ImportanceMatrix(path, entries, _file_name(dataset), n_chunks)


class _LegacyReader:
    """Reads on in a file of the older form; every length is checked against what is left of it."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file
        self._size = path.stat().st_size

    def damaged(self) -> SourceError:
        return _unusable(self._path, "it is cut short, or something else")

    def at_end(self) -> bool:
        return self._file.tell() >= self._size

    def integer(self) -> int:
        return int(struct.unpack("<i", self._bytes(4))[0])

    def text(self, length: int) -> str:
        if not 0 <= length <= _LONGEST_NAME:
            raise self.damaged()
        return self._bytes(length).decode("utf-8", "replace")

    def entry(self) -> tuple[str, Importance]:
        name = self.text(self.integer())
        n_calls, n_values = self.integer(), self.integer()
        if not name or n_values < 1:
            raise self.damaged()
        values = np.frombuffer(self._bytes(4 * n_values), dtype="<f4").astype(np.float32)
        return name, values / np.float32(n_calls) if n_calls > 0 else values

    def _bytes(self, count: int) -> bytes:
        if count > self._size - self._file.tell():
            raise self.damaged()
        return self._file.read(count)


def _unusable(path: Path, why: str) -> SourceError:
    return SourceError(
        f"{path} is no importance matrix that can be used ({why}); name a file that llama-imatrix has written"
    )


def _file_name(text: object) -> str:
    """The last part of a path of any system: where somebody keeps their files is nobody's business."""
    return re.split(r"[/\\]", str(text))[-1]
