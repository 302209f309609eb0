"""A new file as a list of pieces: bytes of a source where they lie, new bytes, and zeros."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from ropewalk_convert.errors import SourceError

CHUNK = 1 << 18
"""Bytes read and written at a time: few enough to stay in a processor's cache."""

_CHUNKS_BETWEEN_REPORTS = 16


@dataclass(frozen=True)
class Copied:
    """Bytes of the source, from `start` on."""

    start: int
    n_bytes: int


@dataclass(frozen=True)
class New:
    """Bytes that the source does not have."""

    raw: bytes

    @property
    def n_bytes(self) -> int:
        """How many."""
        return len(self.raw)


@dataclass(frozen=True)
class Zeros:
    """So many zero bytes."""

    n_bytes: int


Piece = Copied | New | Zeros


def total_bytes(pieces: Sequence[Piece]) -> int:
    """The size of the file that they make."""
    return sum(piece.n_bytes for piece in pieces)


def merged(pieces: Iterable[Piece]) -> list[Piece]:
    """The same bytes in fewer pieces: neighbours in the source that stay neighbours are one piece."""
    result: list[Piece] = []
    for piece in pieces:
        last = result[-1] if result else None
        if not piece.n_bytes:
            continue
        if (
            isinstance(piece, Copied)
            and isinstance(last, Copied)
            and last.start + last.n_bytes == piece.start
        ):
            result[-1] = Copied(last.start, last.n_bytes + piece.n_bytes)
        else:
            result.append(piece)
    return result


def write_pieces(
    pieces: Sequence[Piece], source: Path, write: Callable[[memoryview], object]
) -> Iterator[int]:
    """Write the file that `pieces` make; little of it is held in memory at a time.

    Args:
        pieces: what it consists of.
        source: the file that is copied from.
        write: takes the next bytes, which change after it returns.

    Yields:
        The bytes written so far, after every few chunks and at the end.

    Raises:
        SourceError: the source cannot be read, or has become shorter.
    """
    done = told = 0
    for chunk in chunks(pieces, source):
        write(chunk)
        done += len(chunk)
        if done - told >= _CHUNKS_BETWEEN_REPORTS * CHUNK:
            told = done
            yield done
    if done > told:
        yield done


def chunks(pieces: Sequence[Piece], source: Path) -> Iterator[memoryview]:
    """The file that `pieces` make, chunk by chunk, each valid until the next; see `write_pieces`.

    All chunks but the last are of one size, so that none begins within a page of the new file: the system
    writes parts of pages, in small and large ones, at half the speed.
    """
    buffer = page_aligned(min(CHUNK, total_bytes(pieces)))
    filled = 0
    with opened(source) as file:
        for piece in pieces:
            done = 0
            while done < piece.n_bytes:
                n_bytes = min(len(buffer) - filled, piece.n_bytes - done)
                part = buffer[filled : filled + n_bytes]
                if isinstance(piece, Copied):
                    fill(part, file, source, piece.start + done)
                else:
                    part[:] = piece.raw[done : done + n_bytes] if isinstance(piece, New) else bytes(n_bytes)
                done += n_bytes
                filled += n_bytes
                if filled == len(buffer):
                    yield buffer
                    filled = 0
    if filled:
        yield buffer[:filled]


def page_aligned(n_bytes: int) -> memoryview:
    """A buffer that begins with a page: the system copies to and from others at two thirds of the speed."""
    return memoryview(mmap.mmap(-1, max(n_bytes, 1)))[:n_bytes]


def fill(buffer: memoryview, file: FileIO, path: Path, start: int) -> None:
    """Read as many bytes as `buffer` has; where a file has got shorter, mapping it would crash the process.

    Raises:
        SourceError: the file ends before, or cannot be read.
    """
    try:
        file.seek(start)
        filled = 0
        while filled < len(buffer):  # a plain read may bring less than there is
            read = file.readinto(buffer[filled:])
            if not read:
                raise SourceError(
                    f"{path} changed while it was copied; copy it again when nothing writes to it"
                )
            filled += read
    except OSError as error:
        raise _unreadable(path, error) from error


def read_bytes(path: Path, start: int, n_bytes: int) -> bytes:
    """Some bytes of a file; raises as `fill` does."""
    raw = bytearray(n_bytes)
    with opened(path) as file:
        fill(memoryview(raw), file, path, start)
    return bytes(raw)


def opened(path: Path) -> FileIO:
    """A file, open for reading from one end to the other.

    Raises:
        SourceError: it cannot be read.
    """
    try:
        file = path.open("rb", buffering=0)
    except OSError as error:
        raise _unreadable(path, error) from error
    if hasattr(os, "posix_fadvise"):  # macOS and Windows have none
        with suppress(OSError):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
    return file


def _unreadable(path: Path, error: OSError) -> SourceError:
    return SourceError(f"{path} cannot be read ({error.strerror or error}); check its disk")
