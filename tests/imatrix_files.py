"""Importance matrices in both of llama-imatrix's forms, byte by byte as its source writes them."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf import GGUFWriter

Array = npt.NDArray[np.float32]


def write_gguf_imatrix(
    path: Path,
    sums: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]],
    *,
    datasets: Sequence[str] = ("/home/somebody/texts/calibration.txt",),
    n_chunks: int = 7,
) -> Path:
    """`sums`: for each matrix its sums of squares [experts, columns] and its counts [experts]."""
    writer = GGUFWriter(str(path), "imatrix")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", list(datasets))
    writer.add_uint32("imatrix.chunk_count", n_chunks)
    writer.add_uint32("imatrix.chunk_size", 512)
    for name, (squares, counts) in sums.items():
        writer.add_tensor(f"{name}.in_sum2", np.atleast_2d(np.asarray(squares, np.float32)))
        writer.add_tensor(f"{name}.counts", np.asarray(counts, np.float32).reshape(-1, 1))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def legacy_imatrix(
    entries: Mapping[str, tuple[npt.ArrayLike, int]],
    *,
    n_chunks: int | None = 7,
    dataset: str | None = "C:\\texts\\calibration.txt",
) -> bytes:
    """`entries`: for each matrix its values (mean squares times calls), flat, and its calls."""
    parts = [struct.pack("<i", len(entries))]
    for name, (values, calls) in entries.items():
        numbers = np.asarray(values, "<f4").ravel()
        parts += [_text(name), struct.pack("<ii", calls, numbers.size), numbers.tobytes()]
    if n_chunks is not None:
        parts.append(struct.pack("<i", n_chunks))
    if dataset is not None:
        parts.append(_text(dataset))
    return b"".join(parts)


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<i", len(raw)) + raw
