"""Which files hold a checkpoint's weights, as llama.cpp's converter chooses them, and what they hold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from ropewalk_convert.checkpoint_reading import AGAIN, read_json_object, unreadable
from ropewalk_convert.errors import SourceError
from ropewalk_convert.safetensors_header import SafetensorsHeader, StoredTensor, read_safetensors_header

INDEX = "model.safetensors.index.json"
_SAFETENSORS = ".safetensors"
_PICKLE = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_NO_MODEL = ("adapter_", "optimizer", "rng_state", "scheduler", "training_args")
"""What names of pickle files begin with that training leaves beside a model."""

_SHARD = re.compile(r"(model.*-)(\d{5})-of-(\d{5})\.safetensors")
_CONVERTIBLE = frozenset(
    ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F8_E8M0", "I64", "I32", "I16", "I8", "U8", "BOOL")
)
"""The types that the converter's reader takes (`LazyTorchTensor` in its base.py)."""


@dataclass(frozen=True)
class CheckpointWeights:
    """The weights of a checkpoint.

    Attributes:
        paths: the files.
        tensors: of all files.
        file_bytes: the files' sizes together.
    """

    paths: tuple[Path, ...]
    tensors: tuple[StoredTensor, ...]
    file_bytes: int


def read_checkpoint_weights(folder: Path) -> CheckpointWeights:
    """Find and check the weights in a folder: every header, against the index where there is one.

    Raises:
        SourceError: there are none, or none in safetensors form; a file is missing, damaged, cut short or
            longer than it should be; files and index contradict each other; or a tensor has a type that
            cannot be converted.
    """
    names = names_in(folder)
    index = _read_index(folder / INDEX) if INDEX in names else None
    if index is not None:
        files = sorted(set(index.values()))
        _check_present(folder, files, named_by=INDEX)
    else:
        files = sorted(name for name in names if name.startswith("model") and name.endswith(_SAFETENSORS))
        if not files:
            raise _no_weights(folder, names)
        _check_numbered(folder, files)
    headers = [read_safetensors_header(folder / name) for name in files]
    if index is not None:
        _check_index(folder, index, dict(zip(files, headers, strict=True)))
    else:
        _check_no_repeats(headers)
    for header in headers:
        _check_types(header)
    tensors = tuple(tensor for header in headers for tensor in header.tensors)
    if not tensors:
        raise SourceError(f"{headers[0].path} holds no weights; {AGAIN}")
    return CheckpointWeights(
        paths=tuple(header.path for header in headers),
        tensors=tensors,
        file_bytes=sum(header.file_bytes for header in headers),
    )


def names_in(folder: Path) -> list[str]:
    """The names of all that lies in a folder.

    Raises:
        SourceError: there is no such folder, or it cannot be read.
    """
    try:
        return sorted(path.name for path in folder.iterdir())
    except FileNotFoundError:
        raise SourceError(f"{folder} does not exist; check the path") from None
    except NotADirectoryError:
        raise SourceError(f"{folder} is no folder; name the folder of a checkpoint") from None
    except OSError as error:
        raise unreadable(folder, error) from error


def _read_index(path: Path) -> dict[str, str]:
    """File names by tensor names."""
    weight_map = read_json_object(path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise SourceError(f"{path} has no weight_map, which says the file of each tensor; {AGAIN}")
    for file in weight_map.values():
        if not isinstance(file, str) or not file.endswith(_SAFETENSORS) or _leads_out(file):
            raise SourceError(
                f"{path} names {str(file)[:80]!r}, which is no safetensors file in its folder; {AGAIN}"
            )
    return weight_map


def _leads_out(name: str) -> bool:
    """Whether a name may lead out of its folder, on any system."""
    windows = PureWindowsPath(name)
    return (
        bool(windows.drive or windows.root)
        or ".." in windows.parts
        or PurePosixPath(name).is_absolute()
        or "\\" in name
        or "\0" in name
    )


def _check_present(folder: Path, files: Sequence[str], *, named_by: str) -> None:
    missing = [name for name in files if not (folder / name).is_symlink() and not (folder / name).exists()]
    if missing:
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise SourceError(f"{folder / missing[0]}{others} is missing, which {named_by} names; {AGAIN}")


def _check_numbered(folder: Path, files: Sequence[str]) -> None:
    """Without an index, the names say how many files there have to be."""
    for name in files:
        match = _SHARD.fullmatch(name)
        if match is not None:
            stem, n_files = match[1], int(match[3])
            present = sum(
                other.startswith(stem) and other.endswith(f"-of-{match[3]}.safetensors") for other in files
            )
            if present < n_files:
                expected = (f"{stem}{i:05d}-of-{match[3]}.safetensors" for i in range(1, n_files + 1))
                _check_present(folder, [*expected], named_by=name)


def _check_index(folder: Path, index: dict[str, str], headers: dict[str, SafetensorsHeader]) -> None:
    held = {(tensor.name, file) for file, header in headers.items() for tensor in header.tensors}
    for name, file in sorted(index.items()):
        if (name, file) not in held:
            raise SourceError(
                f"{folder / file} has not the tensor {name}, which {INDEX} says is in it; {AGAIN}"
            )
    for name, file in sorted(held):
        if index.get(name) != file:
            raise SourceError(f"{folder / file} holds the tensor {name}, which {INDEX} does not say; {AGAIN}")


def _check_no_repeats(headers: Sequence[SafetensorsHeader]) -> None:
    found: dict[str, Path] = {}
    for header in headers:
        for tensor in header.tensors:
            other = found.setdefault(tensor.name, header.path)
            if other != header.path:
                raise SourceError(
                    f"{header.path} holds the tensor {tensor.name}, and so does {other.name}, and no "
                    f"{INDEX} says which counts; keep the files of one model only"
                )


def _check_types(header: SafetensorsHeader) -> None:
    for tensor in header.tensors:
        if tensor.dtype not in _CONVERTIBLE:
            raise SourceError(
                f"{header.path} holds {tensor.name} as {tensor.dtype}, which llama.cpp's converter does not "
                "read (MLX packs quantized weights so); take the checkpoint that is not quantized"
            )


def nothing_to_convert(folder: Path, names: Sequence[str]) -> SourceError | None:
    """Why a folder has no checkpoint's files, by what there is instead; None where that does not tell."""
    own = [name for name in names if name.startswith("consolidated") and name.endswith(_SAFETENSORS)]
    ggufs = [name for name in names if name.endswith(".gguf")]
    if own:
        return SourceError(
            f"{folder} has weights in Mistral's own form only ({own[0]}); take the checkpoint in "
            "transformers' form, with model.safetensors"
        )
    if "adapter_config.json" in names:
        return SourceError(
            f"{folder} holds only an adapter (adapter_config.json); merge it into its base model first "
            "(`merge_and_unload` of peft), and convert that"
        )
    if ggufs:
        return SourceError(
            f"{folder} holds no checkpoint but a GGUF file ({ggufs[0]}); use `ropewalk bake` on that"
        )
    return None


def _no_weights(folder: Path, names: Sequence[str]) -> SourceError:
    pickles = [name for name in names if name.endswith(_PICKLE) and not name.startswith(_NO_MODEL)]
    if pickles:
        return SourceError(
            f"{folder} has weights in pickle form only ({pickles[0]}), which can run code when it is "
            "read and is never opened here; take a revision with safetensors files, or save the model as "
            "such (`save_pretrained` of a current transformers does)"
        )
    return nothing_to_convert(folder, names) or SourceError(
        f"{folder} holds no weights: neither model.safetensors nor {INDEX} is in it; {AGAIN}"
    )
