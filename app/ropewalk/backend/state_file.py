"""Keys and values of a sequence in a file, written and read by the library itself.

The library streams them out layer by layer (`llama_state_seq_save_file`), and takes them back straight from
the mapped file, so neither way has a second copy of all of them in memory. Writing them into a mapping of the
file took twice as long (378 MB, SmolLM2-135M at 16,384 tokens: 0.8 to 1.8 s against 0.3 to 0.5 s), and a
disk that fills up would have ended the process.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

import numpy as np
from llama_cpp import llama_cpp as capi

from ropewalk.backend import native_log
from ropewalk.backend.block_checksums import checksums_of_blocks
from ropewalk.backend.errors import StateFileError

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]  # its absence is asked for below

if TYPE_CHECKING:
    from ropewalk.backend.context import Context

OnShare: TypeAlias = Callable[[float], None]
"""Told the share that is done, 0 to 1; what it raises ends the work, and reaches the caller."""

BLOCK_BYTES = 16 * 2**20
"""Bytes that share a checksum."""

_SECONDS_BETWEEN_LOOKS = 0.1
_WRITING, _VERIFYING = 0.6, 0.9  # shares of all work, as measured on a disk that keeps up
_HEADER_BYTES = 12  # before the list of tokens: a mark, a version, the list's length
_STATE_MARK = 0xAF143CD8  # `io_magic` in llama-context.cpp of the pinned release
_ERROR_PREFIX = re.compile(r"^error [^:]*: ")


@dataclass(frozen=True)
class WrittenState:
    """What was written, to know it again.

    Attributes:
        n_bytes: the file's size.
        block_bytes: bytes of each block but the last, which may be shorter.
        checksums: xxh3-128 of each block, as 32 hexadecimal digits.
    """

    n_bytes: int
    block_bytes: int
    checksums: tuple[str, ...]


def write_state(
    context: Context, sequence: int, path: Path, on_progress: OnShare, *, block_bytes: int = BLOCK_BYTES
) -> WrittenState:
    """Write what a sequence holds to a new file, which is on the disk when this returns.

    Logits are not part of it. Whatever goes wrong, and whatever `on_progress` raises, no file is left.

    Args:
        context: a context.
        sequence: its sequence.
        path: a name that is free.
        on_progress: told the share done about ten times a second.
        block_bytes: bytes that share a checksum.

    Raises:
        StateFileError: the file cannot be made, the disk is full, or the library has nothing to write.
    """
    with _new_file(path), _explained(path):
        _save(context, sequence, path, on_progress)
        with path.open("r+b") as file:
            n_bytes = os.fstat(file.fileno()).st_size
            with _synced(file.fileno(), lambda: on_progress(_VERIFYING)):
                checksums = checksums_of_blocks(
                    file.fileno(),
                    n_bytes,
                    block_bytes,
                    lambda share: on_progress(_WRITING + (_VERIFYING - _WRITING) * share),
                )
        on_progress(1.0)
        return WrittenState(n_bytes, block_bytes, checksums)


def read_state(
    context: Context, sequence: int, path: Path, written: WrittenState, on_progress: OnShare
) -> None:
    """Let a sequence hold what was written, in place of what it holds.

    The library sees nothing of a file that is not, byte for byte, what was written. Where this fails, by
    what `on_progress` raises too, the sequence is empty.

    Args:
        context: one of the same model, plan and options.
        sequence: its sequence.
        path: the file.
        written: what `write_state` said of it.
        on_progress: told the share done.

    Raises:
        StateFileError: the file is missing or damaged, or the library does not take it: it is of another
            plan, or the context has no room for it.
    """
    try:
        with _explained(path, "read"), _opened(path) as file:
            _verify(file.fileno(), path, written, lambda share: on_progress(_VERIFYING * share))
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                _set(context, sequence, path, data)
        on_progress(1.0)
    except BaseException:
        _empty(context, sequence)
        raise


def _save(context: Context, sequence: int, path: Path, on_progress: OnShare) -> None:
    """Have the library write the file, and watch it grow.

    The library's file begins with a list of tokens, and its state in memory with a mark and the sequence.
    With these two for tokens, everything behind the list's length is a state in memory, ready for reading.
    """
    with native_log.fresh() as log:
        n_bytes = int(capi.llama_state_seq_get_size(context.handle, sequence))
    if n_bytes == 0:
        raise StateFileError(f"the text that was read cannot be saved: {_reason(log.errors())}")
    tokens = (ctypes.c_int32 * 2)(_STATE_MARK, sequence)
    written = 0

    def save() -> None:
        nonlocal written
        name = os.fsencode(path)
        written = int(capi.llama_state_seq_save_file(context.handle, name, sequence, tokens, len(tokens)))

    with native_log.fresh() as log:
        saving = threading.Thread(target=save, name="save state")
        saving.start()
        try:
            while saving.is_alive():
                on_progress(_WRITING * min(1.0, path.stat().st_size / n_bytes))
                saving.join(_SECONDS_BETWEEN_LOOKS)
        except BaseException:
            with _no_file_grows():
                saving.join()
            raise
    expected = _HEADER_BYTES + n_bytes
    if written != expected or path.stat().st_size != expected:  # the last bytes go out unchecked
        raise StateFileError(
            f"{path} cannot be written ({_reason(log.errors())}): make room on its disk, or choose another"
        )


def _opened(path: Path) -> BinaryIO:
    """A file for reading; opening a pipe would wait for whoever writes to it."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise StateFileError(f"{path} is no regular file: the text has to be read again")
    return path.open("rb")


def _verify(descriptor: int, path: Path, written: WrittenState, on_progress: OnShare) -> None:
    same_size = os.fstat(descriptor).st_size == written.n_bytes > _HEADER_BYTES
    if not same_size or written.checksums != checksums_of_blocks(
        descriptor, written.n_bytes, written.block_bytes, on_progress
    ):
        raise StateFileError(f"{path} is damaged: the text has to be read again")


def _set(context: Context, sequence: int, path: Path, data: mmap.mmap) -> None:
    view = np.frombuffer(data, np.uint8)
    size = len(view) - _HEADER_BYTES
    source = ctypes.cast(view.ctypes.data + _HEADER_BYTES, ctypes.POINTER(ctypes.c_uint8))
    try:
        with native_log.fresh() as log:
            taken = int(capi.llama_state_seq_set_data(context.handle, source, size, sequence))
    finally:
        del view  # else the mapping cannot be closed
    if taken != size:
        raise StateFileError(
            f"the library does not take {path} ({_reason(log.errors())}): the text has to be read again"
        )


def _empty(context: Context, sequence: int) -> None:
    memory = capi.llama_get_memory(context.handle)
    if not capi.llama_memory_seq_rm(memory, sequence, -1, -1):
        capi.llama_memory_clear(memory, True)


def _reason(errors: list[str]) -> str:
    """Why the library did not do it, by its log."""
    return _ERROR_PREFIX.sub("", errors[0]) if errors else "it gave no reason; the disk may be full"


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[None]:
    """A file made for the block, and removed where the block fails."""
    with _explained(path):
        path.open("xb").close()
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            path.unlink()
        raise


@contextlib.contextmanager
def _synced(descriptor: int, on_wait: Callable[[], None]) -> Iterator[None]:
    """Have a file on the disk when the block ends; the block goes on meanwhile.

    Where the block or `on_wait` fails, the file is emptied, so that the disk need not be waited for.
    """
    failed: list[OSError] = []

    def sync() -> None:
        try:
            os.fsync(descriptor)
        except OSError as error:
            failed.append(error)

    syncing = threading.Thread(target=sync, name="sync state")
    syncing.start()
    try:
        yield
        while syncing.is_alive():
            on_wait()
            syncing.join(_SECONDS_BETWEEN_LOOKS)
    except BaseException:
        os.ftruncate(descriptor, 0)
        syncing.join()
        raise
    if failed:
        raise failed[0]


@contextlib.contextmanager
def _no_file_grows() -> Iterator[None]:
    """Let every write to a file fail, so that the library gives up its own: nothing else stops it.

    Pipes and sockets go on. Python ignores the signal that goes with it. Where there is no such limit, the
    library writes to its end.
    """
    if resource is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def _explained(path: Path, done: str = "written") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StateFileError(f"{path} cannot be {done} ({error.strerror or error})") from error
