"""What llama.cpp's quantizer says in its log: what becomes of each tensor, and which types did not fit."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from ropewalk_convert.quantization_types import TENSOR_TYPES

_TENSOR = re.compile(
    r"\[ *\d+/ *\d+\] (?P<name>.+?) +- \[(?P<shape>[\d, ]+)\], type = +(?P<before>\w+), size = "
    r"[^(]*(\((?P<after>\w+)\))?$"
)
_FALLBACK = re.compile(
    r"warning: .+? +- ncols +(?P<columns>\d+) not divisible by +(?P<block>\d+) "
    r"\(required for type +(?P<asked>\w+)\) .*-> falling back to +(?P<taken>\w+)"
)


@dataclass(frozen=True)
class TensorChange:
    """What becomes of one tensor.

    Attributes:
        name: its name.
        shape: its four dimensions, fastest first.
        before: ggml's name of its type, in upper case.
        after: that of its new type; the same where it is only copied.
    """

    name: str
    shape: tuple[int, ...]
    before: str
    after: str

    @property
    def changed(self) -> bool:
        """Whether it is computed anew."""
        return self.before != self.after

    @property
    def n_bytes(self) -> int:
        """The size of its new data."""
        elements = math.prod(self.shape)
        if self.after in TENSOR_TYPES:
            return TENSOR_TYPES[self.after].n_bytes(elements)
        block, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[self.after]]  # a table of integers, say
        return elements // int(block) * int(block_bytes)


def tensor_changes(lines: Iterable[str]) -> Iterator[TensorChange]:
    """What becomes of each tensor, from the log of a dry run."""
    for line in lines:
        found = _TENSOR.match(line)
        if found:
            before = found["before"].upper()
            after = (found["after"] or before).upper()
            yield TensorChange(found["name"], tuple(map(int, found["shape"].split(","))), before, after)


def fallback_notes(lines: Iterable[str]) -> tuple[str, ...]:
    """A sentence about the tensors whose rows did not fit the types chosen for them; none where all did."""
    found = [each for each in map(_FALLBACK.match, lines) if each]
    if not found:
        return ()
    counts = Counter((each["taken"].upper(), each["asked"].upper()) for each in found)
    rows = sorted({int(each["columns"]) for each in found})
    blocks = sorted({int(each["block"]) for each in found})
    parts = [f"{count} became {taken} instead of {asked}" for (taken, asked), count in counts.items()]
    return (
        f"rows of {_either(rows)} numbers do not fill blocks of {_either(blocks)}, so some tensors have "
        f"other types than usual: {', '.join(parts)}",
    )


def _either(numbers: list[int]) -> str:
    return " or ".join(map(str, numbers))
