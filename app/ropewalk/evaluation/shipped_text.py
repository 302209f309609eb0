"""The text that perplexity is measured on where a person gives none; `texts/README.md` says what it is."""

from __future__ import annotations

import gzip
from importlib.resources import files

NAME = "Persuasion"
"""What tables and pages call it."""

_FILE = "persuasion.txt.gz"


def shipped_text() -> str:
    """A public-domain novel, about 110,000 tokens of plain English."""
    packed = (files("ropewalk.evaluation") / "texts" / _FILE).read_bytes()
    return gzip.decompress(packed).decode("ascii")
