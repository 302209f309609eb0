"""Split models: one model in several GGUF files, `NAME-00001-of-00003.gguf` and so on.

llama.cpp finds the other parts by the first one's name, and reads metadata in the first only. Source:
`llama_split_path` and the model loader of the pinned llama.cpp.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

SPLIT_NUMBER_KEY = "split.no"
"""The part's number, from 0."""
SPLIT_COUNT_KEY = "split.count"
SPLIT_TENSORS_KEY = "split.tensors.count"
"""Tensors of all parts together."""

_NAME = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)


@dataclass(frozen=True)
class PartName:
    """What the name of a part says.

    Attributes:
        stem: what the names of all parts begin with.
        number: the part's number, from 1.
        count: how many there are.
    """

    stem: str
    number: int
    count: int

    @classmethod
    def of(cls, path: Path) -> PartName | None:
        """What a file's name says; None where it is no part's name."""
        match = _NAME.fullmatch(path.name)
        return match and cls(match["stem"], int(match["number"]), int(match["count"]))


def part_paths(folder: Path, stem: str, count: int) -> tuple[Path, ...]:
    """The files of a model of `count` parts."""
    return tuple(folder / f"{stem}-{number:05d}-of-{count:05d}.gguf" for number in range(1, count + 1))
