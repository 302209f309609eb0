"""Checksums of files and folders."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from provision.failure import ProvisionError

_CHUNK = 1 << 20


def file_sha256(path: Path) -> str:
    """The file's sha256, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def check_sha256(path: Path, expected: str, remedy: str) -> None:
    """Compare a file with the checksum it must have.

    Raises:
        ProvisionError: it has another one.
    """
    actual = file_sha256(path)
    if actual != expected:
        raise ProvisionError(f"{path.name} has sha256 {actual} where {expected} was expected; {remedy}.")


def content_digest(root: Path, files: Iterable[Path]) -> str:
    """One sha256 for the names (relative to `root`) and contents of some files, in any order."""
    digest = hashlib.sha256()
    for path in sorted(files):
        name = path.relative_to(root).as_posix().encode()
        data = path.read_bytes()
        digest.update(f"{len(name)}:".encode() + name + f"{len(data)}:".encode() + data)
    return digest.hexdigest()
