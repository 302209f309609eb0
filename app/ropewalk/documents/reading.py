"""Files that a person names -> one document."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from ropewalk.documents.document import Document, DocumentError, OnProgress, Source, joined
from ropewalk.documents.formats import format_of


def read_documents(
    sources: Sequence[str], *, stdin: BinaryIO | None = None, on_progress: OnProgress | None = None
) -> Document:
    """Read a file.

    Args:
        sources: its name; `-` is standard input.
        stdin: standard input, for `-`.
        on_progress: told what is done and all there is to do.

    Raises:
        DocumentError: it is missing, unreadable, a directory, binary or empty.
    """
    (given,) = sources
    if given == "-":
        if stdin is None:
            raise DocumentError("There is no standard input; name a file.")
        source = Source("standard input", stdin.read())
    else:
        source = Source(given, _contents(Path(given)), Path(given))
    reading = format_of(source).read(source, on_progress or (lambda _done, _total: None))
    return joined(source.name, ((source.name, False, piece) for piece in reading.pieces), reading.notices)


def _contents(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DocumentError(f"{path}: no such file; check the name.") from None
    except IsADirectoryError:
        raise DocumentError(f"{path} is a directory; name a text file in it.") from None
    except PermissionError:
        raise DocumentError(f"{path} cannot be read; check its permissions (ls -l).") from None
    except OSError as error:
        raise DocumentError(f"{path} cannot be read: {error.strerror or error}.") from error
