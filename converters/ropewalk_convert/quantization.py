"""What a quantization is to be: its type, its importance matrix, and what single tensors get instead."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ropewalk_convert.errors import QuantizeError
from ropewalk_convert.imatrix import ImportanceMatrix, read_imatrix
from ropewalk_convert.quantization_types import (
    ALIASES,
    FILE_TYPES,
    MADE_WITH_IMPORTANCE,
    TENSOR_TYPES,
    TENSORS_WITH_IMPORTANCE,
    FileType,
)

_USUAL = "Q4_K_M"
_WIDEST_IN_MIXTURES = TENSOR_TYPES["Q8_0"]
_HEADER_BYTES = 32 << 20  # vocabulary and the rest; the largest known take about half of it
_NOT_IN_CPP = re.compile(r"\(\?(?![:=!])[^)]?|\\[AZz]|\[([:.=])[^]]*\1\]")
_SMALL_TENSORS = 1.01  # what stays F32: norms, biases


@dataclass(frozen=True)
class Quantization:
    """What to make of a GGUF file's tensors.

    Names of types may be given in any case; a QuantizeError says that there is none of that name.

    Attributes:
        type: a name of `FILE_TYPES`; see `parse_quantization_type`.
        imatrix: a file of llama-imatrix, in either of its forms.
        keep_output_tensor: leave `output.weight` as it is.
        output_tensor_type: a name of `TENSOR_TYPES` for `output.weight`.
        token_embedding_type: the same for the token embeddings.
        tensor_types: (regular expression, name of `TENSOR_TYPES`): the first expression that is found in a
            tensor's name decides its type. In lower case, as llama-quantize takes them and all names are.
        pure: the base type for all matrices instead of a mixture.
        threads: to compute with; 0 for as many as there are processors.
        allow_requantize: take a file that is quantized already; its losses add up.
    """

    type: str
    imatrix: Path | None = None
    keep_output_tensor: bool = False
    output_tensor_type: str | None = None
    token_embedding_type: str | None = None
    tensor_types: tuple[tuple[str, str], ...] = ()
    pure: bool = False
    threads: int = 0
    allow_requantize: bool = False

    def __post_init__(self) -> None:
        """Write the names as the tables do."""
        singles = tuple((_lowered(pattern), parse_tensor_type(name)) for pattern, name in self.tensor_types)
        object.__setattr__(self, "type", parse_quantization_type(self.type))
        object.__setattr__(self, "tensor_types", singles)
        for field in ("output_tensor_type", "token_embedding_type"):
            name = getattr(self, field)
            object.__setattr__(self, field, None if name is None else parse_tensor_type(name))

    @property
    def file_type(self) -> FileType:
        """The type's entry in the table."""
        return FILE_TYPES[self.type]

    @property
    def single_types(self) -> tuple[str, ...]:
        """The types that are asked for by name for some tensors."""
        named = (self.output_tensor_type, self.token_embedding_type, *(name for _, name in self.tensor_types))
        return tuple(name for name in named if name is not None)


def parse_quantization_type(text: str) -> str:
    """The name in `FILE_TYPES` that `text` means, in whatever case; short names become long ones.

    Raises:
        QuantizeError: there is none; the message lists them.
    """
    name = text.strip().upper()
    name = ALIASES.get(name, name)
    if name not in FILE_TYPES:
        raise QuantizeError(
            f"llama.cpp makes no files of the type {text!r}; {_USUAL} is the usual one, and the others are "
            f"{', '.join(name for name in FILE_TYPES if name != _USUAL)} (Q3_K, Q4_K and Q5_K mean their _M)"
        )
    return name


def parse_tensor_type(text: str) -> str:
    """The name in `TENSOR_TYPES` that `text` means, in whatever case.

    Raises:
        QuantizeError: there is none; the message lists them.
    """
    name = text.strip().upper()
    if name not in TENSOR_TYPES:
        raise QuantizeError(
            f"llama.cpp makes no tensors of the type {text!r}; choose one of {', '.join(TENSOR_TYPES)}"
        )
    return name


def check_quantization(wanted: Quantization) -> ImportanceMatrix | None:
    """Check what can be checked before there is a file: call it before any work is done.

    Returns:
        The importance matrix, read.

    Raises:
        SourceError: the importance matrix cannot be read.
        QuantizeError: the type needs an importance matrix and there is none, or the wishes contradict.
    """
    _check_importance(wanted)
    if wanted.keep_output_tensor and wanted.output_tensor_type is not None:
        raise QuantizeError(
            f"output.weight cannot both be kept and become {wanted.output_tensor_type}; ask for one of them"
        )
    if wanted.tensor_types and not wanted.file_type.base.quantized:
        raise QuantizeError(
            f"llama.cpp takes types for single tensors with quantized types only, not with {wanted.type}; "
            "leave them out, or choose another type"
        )
    for pattern, _ in wanted.tensor_types:
        _check_pattern(pattern)
    return None if wanted.imatrix is None else read_imatrix(wanted.imatrix)


def _check_pattern(pattern: str) -> None:
    """Refuse what is no regular expression, or not the same one in Python and in C++, which runs it."""
    strange = _NOT_IN_CPP.search(pattern)
    if strange:
        raise QuantizeError(
            f"{pattern!r} has {strange[0]!r} in it, which llama.cpp's regular expressions do not know; write "
            "e.g. ffn_down, or blk\\.[01]\\.attn_v"
        )
    try:
        re.compile(pattern)
    except re.error as error:
        raise QuantizeError(
            f"{pattern!r} is no regular expression ({error}); write e.g. ffn_down, or blk\\.[01]\\.attn_v"
        ) from None


def _lowered(pattern: str) -> str:
    """A regular expression in lower case, but for what a backslash makes of a letter."""
    return re.sub(r"\\.|[^\\]+", lambda part: part[0] if part[0][0] == "\\" else part[0].lower(), pattern)


def _check_importance(wanted: Quantization) -> None:
    if wanted.imatrix is not None:
        return
    mixed = wanted.type in MADE_WITH_IMPORTANCE
    pure = wanted.file_type.base.name in TENSORS_WITH_IMPORTANCE or wanted.type == "Q2_K_S"
    needing = [wanted.type] if (pure if wanted.pure else mixed) else []
    needing += [name for name in wanted.single_types if name in TENSORS_WITH_IMPORTANCE]
    if needing:
        raise QuantizeError(
            f"{needing[0]} is made with an importance matrix only; give one of this model with --imatrix, "
            "or choose another type"
        )


def largest_quantized_bytes(n_parameters: int, wanted: Quantization) -> int:
    """A bound for the quantized file of a model of which only the number of parameters is known.

    llama.cpp's mixtures give no matrix more than Q8_0's 8.5 bits for each weight, whatever the type and
    whether or not its rows fit the type's blocks; so every parameter is counted with those, or with more
    where the type or a single tensor's asks for more (a kept `output.weight` counts as F16, and since nobody
    knows its share, everything does). One percent is for vectors, which stay F32, and 32 MiB for the
    vocabulary. Rows that are no multiple of 32, which become F16, may exceed it: `quantize` looks again,
    exactly.

    Args:
        n_parameters: of the whole model.
        wanted: the quantization.

    Returns:
        Bytes.
    """
    single = [TENSOR_TYPES[name] for name in wanted.single_types]
    types = [_WIDEST_IN_MIXTURES, wanted.file_type.base, *single]
    if wanted.keep_output_tensor:
        types.append(TENSOR_TYPES["F16"])
    widest = max(each.bits_per_weight for each in types)
    return int(n_parameters * widest / 8 * _SMALL_TENSORS) + _HEADER_BYTES
