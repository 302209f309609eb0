"""Reading the small files of a checkpoint; whatever is wrong with one is a sentence that names it."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

from ropewalk_convert.errors import SourceError

AGAIN = "fetch the checkpoint again"
LARGEST_JSON = 256 * 2**20
"""Bytes. The index of a model with a hundred thousand tensors has some ten million."""

_LFS_POINTER = b"version https://git-lfs"


def file_size(path: Path) -> int:
    """Bytes of a file that has to be there.

    Raises:
        SourceError: it is missing, no regular file, a link that leads nowhere, or what git leaves in a
            file's place until git-lfs has fetched it.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise SourceError(f"{path} is no regular file; {AGAIN}")
        with path.open("rb") as file:
            if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
                raise SourceError(
                    f"{path} is only git-lfs' pointer to the file; run `git lfs pull` in its folder, "
                    f"or {AGAIN}"
                )
    except FileNotFoundError:
        if os.path.lexists(path):
            raise SourceError(f"{path} is a link that leads nowhere; {AGAIN}") from None
        raise SourceError(f"{path} is missing; {AGAIN}") from None
    except OSError as error:
        raise unreadable(path, error) from error
    return status.st_size


def read_json_object(path: Path) -> dict[str, object]:
    """The JSON object in a file.

    Raises:
        SourceError: there is none, or it is larger than any real one.
    """
    size = file_size(path)
    if size > LARGEST_JSON:
        raise SourceError(f"{path} is too large for a JSON file ({size:,} bytes); {AGAIN}")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    return json_object(raw, path)


def json_object(raw: bytes, path: Path, what: str = "") -> dict[str, object]:
    """The JSON object in some bytes.

    Args:
        raw: the bytes, UTF-8.
        path: where they come from, for the message.
        what: the part of the file they are, for the message.

    Raises:
        SourceError: they are anything else, or an object in them says a key twice.
    """
    where = f"{path}: its {what}" if what else str(path)
    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise SourceError(f"{where} is not JSON ({why}); {AGAIN}") from None
    if not isinstance(value, dict):
        raise SourceError(f"{where} is no JSON object; {AGAIN}")
    return value


def unreadable(path: Path, error: OSError) -> SourceError:
    """The sentence for a file that the system does not let us read."""
    return SourceError(f"{path} cannot be read ({error.strerror or error}); check its permissions")


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for i, name in enumerate(names) if name in names[:i])
        raise ValueError(f"{repeated!r} is there twice")
    return values
