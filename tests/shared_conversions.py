"""`ropewalk convert --method none` of the cases in `checkpoint_cases`, made once for all tests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from checkpoint_cases import CASES
from ropewalk_convert.huggingface import Checkpoint, Conversion, Progress, convert
from ropewalk_convert.quantization import Quantization


@dataclass(frozen=True)
class SharedConversions:
    """Checkpoints and what we make of them, written where they are first asked for.

    Attributes:
        folder: where they lie.
    """

    folder: Path

    def checkpoint(self, name: str) -> Path:
        """The folder of a case's checkpoint."""
        folder = self.folder / name.replace(" ", "-")
        if not folder.exists():
            CASES[name].write(folder, seed=list(CASES).index(name))
        return folder

    def converted(self, name: str) -> Path:
        """The case's GGUF file."""
        source = self.checkpoint(name)
        target = source.with_suffix(".gguf")
        if not target.exists():
            outtype = CASES[name].outtype
            wanted = None if outtype == "auto" else Quantization(outtype.upper())
            convert(
                Checkpoint(source, source.name),
                target,
                Conversion(method="none", quantization=wanted),
                step=_silent,
            )
        return target


@contextlib.contextmanager
def _silent(_label: str) -> Iterator[Progress]:
    yield lambda _done, _total: None
