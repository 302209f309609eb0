"""Whether a quantization can be made of a particular file: what llama.cpp finds out late, or by aborting."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches

from ropewalk_convert.errors import QuantizeError, SourceError
from ropewalk_convert.imatrix import ImportanceMatrix
from ropewalk_convert.quantization import Quantization
from ropewalk_convert.quantization_types import TENSOR_TYPES, TENSORS_WITH_IMPORTANCE
from ropewalk_convert.quantizer_log import TensorChange
from ropewalk_plan.gguf_header import GgufHeader

_OUTPUT, _EMBEDDINGS = "output.weight", ("token_embd.weight", "per_layer_token_embd.weight")

_LAYER = re.compile(r"^blk\\?\.(\d+|N)\\?\.")
_MOST_NEAR, _MOST_NAMES = 4, 20

_ABORT_WITHOUT_IMPORTANCE = frozenset(("IQ1_S", "IQ2_XXS", "IQ2_XS"))


def check_rows(header: GgufHeader, wanted: Quantization, called: str) -> None:
    """Check that the types asked for by name fit the tensors that llama.cpp gives them without looking.

    Args:
        header: the source's.
        wanted: the quantization.
        called: the source's name in messages.

    Raises:
        QuantizeError: the rows are no multiple of the type's block.
    """
    asked = [(_OUTPUT, wanted.output_tensor_type), *((n, wanted.token_embedding_type) for n in _EMBEDDINGS)]
    for tensor_name, type_name in asked:
        tensor = header.tensors.get(tensor_name)
        if tensor is None or type_name is None:
            continue
        if tensor.shape[0] % TENSOR_TYPES[type_name].block:
            raise QuantizeError(
                f"{tensor_name} of {called} has rows of {tensor.shape[0]} numbers, which {type_name} cannot "
                f"hold (its blocks have {TENSOR_TYPES[type_name].block}); choose another type for it"
            )


def check_tensors(
    tensors: Sequence[TensorChange], wanted: Quantization, matrix: ImportanceMatrix | None, called: str
) -> list[str]:
    """Check what would become of each tensor.

    Args:
        tensors: from a dry run.
        wanted: the quantization.
        matrix: the importance matrix.
        called: the source's name in messages.

    Returns:
        Sentences a person should know.

    Raises:
        SourceError: the source is quantized already, or the matrix belongs to another model.
        QuantizeError: a pattern names no tensor.
    """
    _check_not_quantized(tensors, wanted, called)
    notes = []
    for pattern, type_name in wanted.tensor_types:
        matched = [tensor for tensor in tensors if re.search(pattern, tensor.name)]
        if not matched:
            raise QuantizeError(
                f"no tensor of {called} is called anything like {pattern!r}, which is to be {type_name}; "
                f"{_names_near(pattern, tensors)}"
            )
        if not any(tensor.changed or tensor.before == type_name for tensor in matched):
            notes.append(
                f"{pattern!r} changes nothing: llama.cpp leaves {matched[0].name}, and what else it fits, as "
                "it is"
            )
    if wanted.keep_output_tensor and not any(tensor.name == _OUTPUT for tensor in tensors):
        notes.append(
            f"{called} has no {_OUTPUT} to keep: its token embeddings serve as that; give them a type instead"
        )
    if matrix is not None:
        _check_same_model(tensors, matrix, called)
        notes += [*_uncovered(tensors, matrix), *_of_other_layers(tensors, matrix, called)]
    _check_covered(tensors, wanted, matrix, called)
    return notes


def _names_near(pattern: str, tensors: Sequence[TensorChange]) -> str:
    """Names that were perhaps meant, without the number of the layer; all of them where none is near."""
    names = list(dict.fromkeys(_LAYER.sub("", tensor.name).removesuffix(".weight") for tensor in tensors))
    near = get_close_matches(_LAYER.sub("", pattern).removesuffix(".weight"), names, n=_MOST_NEAR)
    if near:
        return f"near it are {', '.join(near)}"
    more = ", ..." if len(names) > _MOST_NAMES else ""
    return f"there are {', '.join(names[:_MOST_NAMES])}{more}"


def _check_not_quantized(tensors: Sequence[TensorChange], wanted: Quantization, called: str) -> None:
    if wanted.allow_requantize:
        return
    for tensor in tensors:
        if tensor.changed and tensor.before in TENSOR_TYPES and TENSOR_TYPES[tensor.before].quantized:
            raise SourceError(
                f"{called} is quantized already ({tensor.name} is {tensor.before}), and making "
                f"{wanted.type} of it would add up the losses; start from the 16-bit model"
            )


def _check_same_model(tensors: Sequence[TensorChange], matrix: ImportanceMatrix, called: str) -> None:
    if not any(tensor.name in matrix.entries for tensor in tensors):
        raise SourceError(
            f"{matrix.path} has no tensor's name in common with {called}; give the importance matrix of this "
            "very model"
        )
    for tensor in tensors:
        values = matrix.entries.get(tensor.name)
        expected = tensor.shape[0] * tensor.shape[2]
        if values is not None and values.size != expected and tensor.name not in _EMBEDDINGS:
            raise SourceError(
                f"{matrix.path} belongs to another model than {called}: it has {values.size} numbers for "
                f"{tensor.name}, whose inputs are {expected}; give the importance matrix of this very model"
            )


def _uncovered(tensors: Sequence[TensorChange], matrix: ImportanceMatrix) -> list[str]:
    quantized = [t for t in tensors if t.changed and TENSOR_TYPES[t.after].quantized]
    matrices = [
        t for t in quantized if t.name not in (_OUTPUT, *_EMBEDDINGS)
    ]  # llama-imatrix leaves these out
    missing = [tensor for tensor in matrices if tensor.name not in matrix.entries]
    if not missing:
        return []
    return [
        f"{matrix.path} says nothing of {len(missing)} of the {len(matrices)} quantized tensors "
        f"({missing[0].name}, for one), which were made without it"
    ]


def _of_other_layers(tensors: Sequence[TensorChange], matrix: ImportanceMatrix, called: str) -> list[str]:
    """A deeper model of the same family has matrices of the same names and sizes, and more of them."""
    layers = {layer[0] for tensor in tensors if (layer := _LAYER.match(tensor.name))}
    others = [name for name in matrix.entries if (layer := _LAYER.match(name)) and layer[0] not in layers]
    if not others:
        return []
    return [
        f"{matrix.path} is perhaps of another model: it has numbers for {others[0]}, and {called} has no "
        "such layer"
    ]


def _check_covered(
    tensors: Sequence[TensorChange], wanted: Quantization, matrix: ImportanceMatrix | None, called: str
) -> None:
    present = set() if matrix is None else set(matrix.entries)
    for tensor in tensors:
        if not tensor.changed or tensor.name in present:
            continue
        if tensor.name in (_OUTPUT, *_EMBEDDINGS):
            needs = tensor.after in _ABORT_WITHOUT_IMPORTANCE
        else:
            needs = tensor.after in TENSORS_WITH_IMPORTANCE or (
                wanted.type == "Q2_K_S" and tensor.after == "Q2_K"
            )
        if needs:
            why = "there is no importance matrix" if matrix is None else f"{matrix.path} says nothing of it"
            raise SourceError(
                f"{tensor.name} of {called} cannot become {tensor.after}, since {why}; "
                "give an importance matrix that has it, or choose another type"
            )
