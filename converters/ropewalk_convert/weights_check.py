"""Whether every weight of a copy is, byte for byte, that of its source."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ropewalk_convert.errors import BakeError
from ropewalk_convert.pieces import CHUNK, fill, opened
from ropewalk_plan.gguf_header import GgufHeader

_CHUNKS_BETWEEN_REPORTS = 16


@dataclass(frozen=True)
class _Weights:
    """One tensor's data: its name, where it lies, and how long it is."""

    name: str
    path: Path
    start: int
    n_bytes: int


def weights_bytes(source: GgufHeader, changed: Collection[str]) -> int:
    """How many bytes `check_weights` compares."""
    return sum(weights.n_bytes for weights in _weights(source) if weights.name not in changed)


def check_weights(
    source: GgufHeader, copy: GgufHeader, changed: Collection[str], on_bytes: Callable[[int], None]
) -> None:
    """Compare the data of every tensor of `source` with that in `copy`, each by its own file's table.

    Args:
        source: the model that was copied.
        copy: its copy; what the disk holds of it is read, where the system lets its cache be dropped.
        changed: tensors that are meant to differ.
        on_bytes: told the bytes compared, time after time.

    Raises:
        BakeError: a tensor is missing, of another shape or type, or differs.
        SourceError: one of them cannot be read.
    """
    for file in copy.files:
        _drop_cache(file.path)
    theirs = {weights.name: weights for weights in _weights(copy)}
    kinds = {t.name: (t.shape, t.type) for file in copy.files for t in file.tensors.values()}
    wanted = {t.name: (t.shape, t.type) for file in source.files for t in file.tensors.values()}
    for ours in _weights(source):
        if ours.name in changed:
            continue
        other = theirs.get(ours.name)
        if other is None or kinds[ours.name] != wanted[ours.name] or not _equal(ours, other, on_bytes):
            raise BakeError(
                f"the tensor {ours.name} of the copy of {source.path} differs from the source's; "
                "check the disk and the memory, and try again"
            )


def _weights(model: GgufHeader) -> Iterator[_Weights]:
    """Every tensor's data; of an element type of unknown size, all bytes up to the next tensor."""
    for file in model.files:
        starts = sorted({tensor.offset for tensor in file.tensors.values()})
        ends = dict(pairwise([*starts, file.data_end - file.data_start]))
        for tensor in file.tensors.values():
            n_bytes = ends[tensor.offset] - tensor.offset if tensor.n_bytes is None else tensor.n_bytes
            yield _Weights(tensor.name, file.path, file.data_start + tensor.offset, n_bytes)


def _equal(one: _Weights, other: _Weights, on_bytes: Callable[[int], None]) -> bool:
    if one.n_bytes > other.n_bytes:
        return False
    mine, its = (bytearray(min(CHUNK, one.n_bytes)) for _ in range(2))
    told = 0
    with opened(one.path) as ours, opened(other.path) as theirs:
        for begin in range(0, one.n_bytes, CHUNK):
            n_bytes = min(CHUNK, one.n_bytes - begin)
            if n_bytes < len(mine):  # the last chunk; whole ones are compared where they are, the fastest way
                mine, its = mine[:n_bytes], its[:n_bytes]
            fill(memoryview(mine), ours, one.path, one.start + begin)
            fill(memoryview(its), theirs, other.path, other.start + begin)
            if mine != its:
                return False
            done = begin + n_bytes
            if done - told >= _CHUNKS_BETWEEN_REPORTS * CHUNK:
                on_bytes(done - told)
                told = done
    on_bytes(one.n_bytes - told)
    return True


def _drop_cache(path: Path) -> None:
    """Have the system forget what it keeps of a file in memory; what is not on the disk yet stays."""
    if not hasattr(os, "posix_fadvise"):  # macOS, Windows
        return
    with suppress(OSError), path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
