"""A checkpoint's model card, whose YAML head llama.cpp's converter reads: whether that comes to an end."""

from __future__ import annotations

import re
from pathlib import Path

from ropewalk_convert.checkpoint_reading import unreadable
from ropewalk_convert.errors import SourceError

CARD = "README.md"

_REFERENCE = re.compile(rb"(?:^|[\s\[,:-])\*[\w-]+", re.MULTILINE)
_MOST_REFERENCES = 20  # those that refer to one another can make a thousand times what is there, and no more
_FENCE = b"---"


def check_card(folder: Path) -> None:
    """Refuse a model card of a few lines that would fill the memory.

    Raises:
        SourceError: its head refers back to itself many times over.
    """
    path = folder / CARD
    if not path.is_file():
        return
    try:
        content = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    if not content.startswith(_FENCE):
        return
    head = content.removeprefix(_FENCE).partition(b"\n" + _FENCE)[0]
    if b"&" in head and len(_REFERENCE.findall(head)) > _MOST_REFERENCES:
        raise SourceError(
            f"{path} has a head that refers back to itself too often to be read; mend it, or remove the file"
        )
