"""Checksums of a file, block by block, several blocks at a time."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import xxhash

_PIECE_BYTES = 2**20  # read at once: stays in the cache between reading and hashing
_THREADS = 4  # as many as most disks keep busy
_seeking = Lock()


def checksums_of_blocks(
    descriptor: int, n_bytes: int, block_bytes: int, on_progress: Callable[[float], None]
) -> tuple[str, ...]:
    """The xxh3-128 of each block of an open file, as hexadecimal digits.

    The file is read, not mapped: an error of the disk, or a file that is cut short meanwhile, would end
    the process that reads a mapping.

    Args:
        descriptor: a file open for reading.
        n_bytes: its size.
        block_bytes: of each block but the last.
        on_progress: told the share done after each block; what it raises ends the work.

    Raises:
        OSError: the file cannot be read, or ends before its size.
    """
    starts = range(0, n_bytes, block_bytes)
    found: list[str] = []

    def checksum(start: int) -> str:
        return _checksum(descriptor, start, min(start + block_bytes, n_bytes))

    pool = ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1), "checksum")
    try:
        for digest in pool.map(checksum, starts):
            found.append(digest)
            on_progress(len(found) / len(starts))
    finally:
        pool.shutdown(cancel_futures=True)
    return tuple(found)


def _checksum(descriptor: int, start: int, end: int) -> str:
    state = xxhash.xxh3_128()
    piece = memoryview(bytearray(min(_PIECE_BYTES, end - start)))
    while start < end:
        count = _read_at(descriptor, piece[: end - start], start)
        if count == 0:
            raise OSError("it ends before its size")
        state.update(piece[:count])
        start += count
    return state.hexdigest()


def _read_at(descriptor: int, piece: memoryview, position: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [piece], position)
    with _seeking:  # Windows
        os.lseek(descriptor, position, os.SEEK_SET)
        data = os.read(descriptor, len(piece))
    piece[: len(data)] = data
    return len(data)
