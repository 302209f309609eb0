"""A checkpoint's folder, checked before any work starts: headers and small files are all that is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ropewalk_convert.checkpoint_architecture import architecture, check_known, text_config
from ropewalk_convert.checkpoint_card import check_card
from ropewalk_convert.checkpoint_quantization import Packing, read_packing
from ropewalk_convert.checkpoint_reading import read_json_object
from ropewalk_convert.checkpoint_tokenizer import check_tokenizer, vocabulary_bytes
from ropewalk_convert.checkpoint_weights import names_in, nothing_to_convert, read_checkpoint_weights
from ropewalk_convert.converted_size import converted_weights
from ropewalk_convert.errors import SourceError
from ropewalk_convert.safetensors_header import StoredTensor
from ropewalk_convert.upstream_source import known_architectures

_CONFIG = "config.json"
_WIDE_OUTPUT = "enable_lm_head_fp32"
_VOCABULARY_GROWTH = 3
"""A GGUF file has 16 bytes and more for each token besides its text, and merges one by one."""

_PADDING_TOKEN = 32
_METADATA_BYTES = 65_536


@dataclass(frozen=True)
class CheckpointFiles:
    """What a checkpoint's folder holds.

    Attributes:
        folder: the folder.
        architecture: what it is converted as: a name of its `config.json`.
        weights: the files of weights.
        n_parameters: how many weights the model has; quantized ones are counted one by one.
        weight_bytes: the sizes of these files together.
        tensors: all that is in them.
        packing: how quantized tensors hold weights.
        vocabulary_bytes: the sizes of the tokenizer's and other small files together.
        n_vocab: tokens, as the config says; 0 where it does not.
        wide_output: whether the output tensor stays in F32, as few configs ask for.
    """

    folder: Path
    architecture: str
    weights: tuple[Path, ...]
    n_parameters: int
    weight_bytes: int
    tensors: tuple[StoredTensor, ...]
    packing: Packing
    vocabulary_bytes: int
    n_vocab: int
    wide_output: bool = False

    @property
    def config(self) -> Path:
        """Its `config.json`."""
        return self.folder / _CONFIG


def check_without_weights(folder: Path) -> str:
    """Check all of a checkpoint but its weights, which may not be there yet.

    Returns:
        What it is converted as: the architecture of its `config.json`.

    Raises:
        SourceError, ConverterError, ExtraMissingError: as `read_checkpoint_files`.
    """
    names = names_in(folder)
    path = folder / _CONFIG
    config, name = _read_config(folder, names)
    check_tokenizer(folder, names, name)
    check_card(folder)
    read_packing(config, name, path, ())
    return name


def read_checkpoint_files(folder: Path) -> CheckpointFiles:
    """Check that a folder holds all of a checkpoint that llama.cpp's converter can convert.

    Raises:
        SourceError: something is missing, damaged, or of a kind that cannot be converted.
        ConverterError: the converter, which knows the architectures, is not as it should be.
        ExtraMissingError: it is not installed.
    """
    names = names_in(folder)
    path = folder / _CONFIG
    config, name = _read_config(folder, names)
    weights = read_checkpoint_weights(folder)
    packing = read_packing(config, name, path, weights.tensors)
    check_tokenizer(folder, names, name)
    check_card(folder)
    said = {**config, **text_config(config)}
    n_vocab = said.get("vocab_size")
    return CheckpointFiles(
        folder=folder,
        architecture=name,
        weights=weights.paths,
        n_parameters=sum(packing.weights(tensor) for tensor in weights.tensors),
        weight_bytes=weights.file_bytes,
        tensors=weights.tensors,
        packing=packing,
        vocabulary_bytes=vocabulary_bytes(folder, names),
        n_vocab=n_vocab if isinstance(n_vocab, int) and n_vocab > 0 else 0,
        wide_output=bool(said.get(_WIDE_OUTPUT)),
    )


def _read_config(folder: Path, names: Sequence[str]) -> tuple[dict[str, object], str]:
    """A folder's `config.json`, and the architecture that it is converted as."""
    if _CONFIG not in names:
        instead = nothing_to_convert(folder, names) or _further_down(folder)
        if instead is not None:
            raise instead
    path = folder / _CONFIG
    config = read_json_object(path)
    name = architecture(config, path)
    check_known(name, known_architectures(), path)
    return config, name


def _further_down(folder: Path) -> SourceError | None:
    """Why a folder is no checkpoint's that holds one, as the folders of the hub's cache do."""
    for place in ("*", "snapshots/*"):
        for found in sorted(folder.glob(f"{place}/{_CONFIG}")):
            return SourceError(f"{folder} has no {_CONFIG}, but {found.parent} has one; name that folder")
    return None


def converted_bytes(files: CheckpointFiles, outtype: str) -> int:
    """How large the converted GGUF file will be at most.

    Args:
        files: the checkpoint.
        outtype: a type that the converter writes: auto, f32, f16, bf16, q8_0, tq1_0 or tq2_0.
    """
    vocabulary = _VOCABULARY_GROWTH * files.vocabulary_bytes + _PADDING_TOKEN * files.n_vocab
    weights = converted_weights(files.tensors, files.packing, outtype, wide_output=files.wide_output)
    return weights + vocabulary + _METADATA_BYTES
