"""Results on disk: whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

_NAME_KEPT = 40
"""Characters of a name in the temporary one, which has room for no more than the longest names have."""


def to_json(value: dict[str, Any]) -> str:
    """A results object as the text of a JSON file."""
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a results file (see `write_whole`); what UTF-8 cannot say, as of a file's name, is `?` in it."""
    write_whole(path, to_json(value).encode("utf-8", "replace"))


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under a temporary name beside it, renamed only when whole.

    A link is followed: it stays, and the file that it names is replaced.

    Raises:
        OSError: it cannot be written; what stood under the name still does.
    """
    path = path.resolve() if path.is_symlink() else path
    prefix = f".{path.name[:_NAME_KEPT]}."
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
