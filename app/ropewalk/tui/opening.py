"""What the application is opened with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ropewalk.documents import Document, Selection
from ropewalk.engine import EngineOptions


@dataclass(frozen=True)
class Opening:
    """What to load and how.

    Attributes:
        model: the GGUF file.
        options: how to run it.
        document: a document to begin with; None to begin without.
        max_tokens: longest answer in tokens.
        selection: what of its file the document is; None for all.
    """

    model: Path
    options: EngineOptions
    document: Document | None
    max_tokens: int
    selection: Selection | None = None
