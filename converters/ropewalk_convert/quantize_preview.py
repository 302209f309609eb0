"""What a quantization would make of a file: each tensor's type, the exact size, what a person should know.

llama.cpp chooses the types, in a dry run, which reads the file's header alone; its log says what it chose.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ropewalk_convert.errors import BakeError, QuantizeError, SourceError
from ropewalk_convert.imatrix import ImportanceMatrix
from ropewalk_convert.quantization import Quantization, check_quantization
from ropewalk_convert.quantize_checks import check_rows, check_tensors
from ropewalk_convert.quantizer import NewKey, run_quantizer
from ropewalk_convert.quantizer_log import TensorChange, fallback_notes, tensor_changes
from ropewalk_plan.gguf_header import DEFAULT_ALIGNMENT, GgufError, GgufHeader, padded

_ALWAYS_SET: tuple[NewKey, ...] = (
    ("general.quantization_version", "u32", 0),
    ("general.file_type", "u32", 0),
)
_NEVER_KEPT = ("split.no", "split.count", "split.tensors.count")
_LONGEST_STRING = 127  # of a key's value, in bytes


@dataclass(frozen=True)
class QuantizePreview:
    """A quantization, before it is done.

    Attributes:
        tensors: of all parts of the source.
        keys: what is to be set in the new file.
        n_bytes: the new file's exact size (an upper bound where strings in the header contain NUL, at which
            llama.cpp cuts them).
        notes: sentences a person should know.
    """

    tensors: tuple[TensorChange, ...]
    keys: tuple[NewKey, ...]
    n_bytes: int
    notes: tuple[str, ...]


def preview(source: Path, wanted: Quantization, *, called: str) -> QuantizePreview:
    """Find out what would be made of `source`, and check that it can be.

    Args:
        source: a GGUF file, or the first part of a split one.
        wanted: the quantization.
        called: the source's name in messages.

    Raises:
        SourceError: the source or the importance matrix cannot be read, the source is quantized already, or
            the one does not belong to the other.
        QuantizeError: the wishes cannot be met for this file.
    """
    matrix = check_quantization(wanted)
    try:
        header = GgufHeader.read(source)
    except GgufError as error:
        raise SourceError(str(error).replace(str(source), called)) from error
    check_rows(header, wanted, called)
    keys = _new_keys(header, matrix)
    run = run_quantizer(source, source, wanted, keys, dry_run=True, called=called)
    if run.failure is not None:
        raise _refusal(run.failure, source, wanted, called)
    tensors = tuple(tensor_changes(run.lines))
    notes = check_tensors(tensors, wanted, matrix, called)
    return QuantizePreview(tensors, keys, _size(header, keys, tensors), (*fallback_notes(run.lines), *notes))


def _refusal(failure: str, source: Path, wanted: Quantization, called: str) -> BakeError:
    """Whether a pattern is the reason, which C++ may read in another way, the type, or the model itself."""

    def refused(*patterns: tuple[str, str]) -> str | None:
        tried = Quantization("Q8_0", tensor_types=patterns, allow_requantize=True)
        return run_quantizer(source, source, tried, (), dry_run=True, called=called).failure

    if wanted.tensor_types and refused() is None:
        for pattern, name in wanted.tensor_types:
            why = refused((pattern, name))
            if why is not None:
                return QuantizeError(
                    f"llama.cpp cannot make {name} of what {pattern!r} fits in {called} ({why}); write "
                    "another pattern, or choose another type"
                )
    if "fallback" in failure:
        return QuantizeError(
            f"llama.cpp cannot make {wanted.type} of {called} ({failure}); choose another type"
        )
    return SourceError(f"llama.cpp cannot read {called} as a model ({failure}); convert the model again")


def _new_keys(header: GgufHeader, matrix: ImportanceMatrix | None) -> tuple[NewKey, ...]:
    """The keys to set: those that llama-quantize writes of an importance matrix, and the alignment.

    llama.cpp aligns what it writes to 32 bytes whatever the source's key says, and keeps the key.
    """
    keys: list[NewKey] = []
    if header.alignment != DEFAULT_ALIGNMENT:
        keys.append(("general.alignment", "u32", DEFAULT_ALIGNMENT))
    if matrix is not None:
        keys.append(("quantize.imatrix.file", "string", _cut(matrix.path.name)))
        if matrix.dataset:
            keys.append(("quantize.imatrix.dataset", "string", _cut(matrix.dataset)))
        keys.append(("quantize.imatrix.entries_count", "u32", len(matrix.entries)))
        if matrix.n_chunks:
            keys.append(("quantize.imatrix.chunks_count", "u32", matrix.n_chunks))
    return tuple(keys)


def _cut(text: str) -> str:
    """As much of a text as a key's value can take, in whole characters."""
    return text.encode("utf-8", "replace")[:_LONGEST_STRING].decode("utf-8", "ignore")


def _size(header: GgufHeader, keys: tuple[NewKey, ...], tensors: tuple[TensorChange, ...]) -> int:
    """The size of the new file, by GGUF's layout."""
    new = {name: (kind, value) for name, kind, value in (*_ALWAYS_SET, *keys)}
    head = 24  # magic, version, two counts
    for name, span in header.keys.items():
        if name not in new and name not in _NEVER_KEPT:
            head += span.end - span.start
    for name, (kind, value) in new.items():
        head += 8 + len(name) + 4 + (4 if kind == "u32" else 8 + len(str(value).encode()))
    for tensor in tensors:
        n_dimensions = max((i + 1 for i, size in enumerate(tensor.shape) if size != 1), default=1)
        head += 8 + len(tensor.name.encode()) + 4 + 8 * n_dimensions + 4 + 8
    data = sum(padded(tensor.n_bytes, DEFAULT_ALIGNMENT) for tensor in tensors)
    return padded(head, DEFAULT_ALIGNMENT) + data
