"""The bytes of a file, and of standard input: whole, or a sentence about why not; never a hang."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from ropewalk.documents.document import DocumentError
from ropewalk.wording.quantities import size

MAX_BYTES = 10**9
"""Longest file, and longest text in all: some 250 million tokens of English, beyond what any model takes."""

STANDARD_INPUT = "standard input"
"""What messages and headers call it."""

_BLOCK = 1 << 20
_ATTEMPTS = 3
_HEAD = 8192
_FLAGS = ("O_NONBLOCK", "O_BINARY", "O_CLOEXEC")  # where the system has them
_OPENING = os.O_RDONLY | sum(getattr(os, flag, 0) for flag in _FLAGS)

OnBlock = Callable[[], None]
"""Called every so often; an error that it raises ends the reading."""


def shown_name(name: str) -> str:
    """A file's name as it can be printed, and stand in a text: without controls and broken characters."""
    text = os.fsencode(name).decode("utf-8", errors="replace")
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def regular_file(name: str) -> os.stat_result:
    """What the system knows of a file or folder that a person has named.

    Raises:
        DocumentError: it is missing, out of reach, or neither file nor folder: a pipe, a device, a socket.
    """
    try:
        found = Path(name).stat()
    except (OSError, ValueError) as error:
        raise refused(name, error) from None
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        raise _no_file(name)
    return found


def refused(name: str, error: OSError | ValueError) -> DocumentError:
    """Why the system does not give a file, as a sentence."""
    shown = shown_name(name)
    if isinstance(error, FileNotFoundError):
        return DocumentError(f"{shown}: no such file; check the name.")
    if isinstance(error, PermissionError):
        return DocumentError(f"{shown} cannot be read; check its permissions (ls -l).")
    reason = error.strerror if isinstance(error, OSError) else None
    return DocumentError(f"{shown} cannot be read: {reason or error}.")


def _no_file(name: str) -> DocumentError:
    return DocumentError(
        f"{shown_name(name)} is a pipe or a device, no file; pipe what comes from it into standard input, "
        "and name - for that."
    )


def too_large(shown: str, n_bytes: int) -> DocumentError:
    """The refusal of what is longer than `MAX_BYTES`."""
    return DocumentError(
        f"{shown} is {size(n_bytes)}, and no model takes the text of more than {size(MAX_BYTES)}: "
        "split it, or name a part of it."
    )


def head_of(path: Path) -> bytes:
    """The first few kilobytes of a file; nothing of what cannot be read, which reading it will tell."""
    try:
        with _opened(path) as file:
            return file.read(_HEAD)
    except (OSError, DocumentError):
        return b""


def read_file(path: Path, on_block: OnBlock) -> tuple[bytes, str | None]:
    """Read a file that somebody may be writing to.

    Args:
        path: the file; a link is followed.
        on_block: called for every megabyte.

    Returns:
        All of it, and a notice where it grew meanwhile.

    Raises:
        DocumentError: it is missing, unreadable, no regular file, too large, or keeps changing.
    """
    name = str(path)
    former: bytes | None = None
    grew = True
    for _ in range(_ATTEMPTS):
        try:
            with _opened(path) as file:
                before = os.fstat(file.fileno())
                data = _blocks(file, shown_name(name), before.st_size, on_block)
                after = os.fstat(file.fileno())
        except OSError as error:
            raise refused(name, error) from None
        if (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns):
            return data, None
        grew = grew and (former is None or data.startswith(former))
        former = data
    if former is not None and grew:
        notice = f"{shown_name(name)} is being written to; read as it was at {size(len(former))}."
        return former, notice
    raise DocumentError(f"{shown_name(name)} keeps changing while it is read; wait until it is written.")


def read_standard_input(stdin: BinaryIO | None, on_block: OnBlock) -> bytes:
    """Read standard input to its end.

    Raises:
        DocumentError: there is none, or it is a terminal, or too much comes.
    """
    if stdin is None or stdin.closed:
        raise DocumentError("Standard input is closed; pipe a text into it, or name a file.")
    if stdin.isatty():
        raise DocumentError("Standard input is a terminal; pipe a text into it, or name a file.")
    try:
        return _blocks(stdin, "Standard input", 0, on_block)
    except OSError as error:
        raise DocumentError(f"Standard input cannot be read: {error.strerror or error}.") from None


def _opened(path: Path) -> BinaryIO:
    """Open a file without waiting: whoever opens a pipe would wait for somebody who writes into it."""
    descriptor = os.open(path, _OPENING)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise _no_file(str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _blocks(file: BinaryIO, shown: str, expected: int, on_block: OnBlock) -> bytes:
    if expected > MAX_BYTES:
        raise too_large(shown, expected)
    blocks: list[bytes] = []
    length = 0
    while block := file.read(_BLOCK):
        on_block()
        blocks.append(block)
        length += len(block)
        if length > MAX_BYTES:
            raise too_large(shown, length)
    return b"".join(blocks)
