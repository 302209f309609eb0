"""A checkpoint converted without a plan and without a word."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ropewalk_convert.huggingface import Checkpoint, Conversion, convert
from ropewalk_convert.quantization import Quantization
from shared_converter import share_converter


def converted(checkpoint: Path, target: Path, quantization: Quantization | None = None) -> Path:
    """Make `target` of a checkpoint, and return it."""
    wanted = Conversion("none", quantization=quantization)
    with pytest.MonkeyPatch.context() as patch:
        share_converter(patch)
        convert(Checkpoint(checkpoint, checkpoint.name), target, wanted, step=_quiet)
    return target


@contextmanager
def _quiet(label: str) -> Iterator[Callable[[int, int], None]]:
    yield lambda done, total: None
