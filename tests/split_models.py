"""Tiny models in several files, split by the `gguf` package, and the same models in one file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGUFWriter

from tiny_models import Array, TinyModel, add_hyperparameters, write_gguf_of, write_tiny_model

TRAIN = 64


@dataclass(frozen=True)
class SplitModel:
    """One model twice.

    Attributes:
        whole: in one file.
        parts: in several, the first one first.
    """

    whole: Path
    parts: tuple[Path, ...]


def write_split_model(
    folder: Path,
    *,
    tensors_per_part: int = 8,
    metadata_first: bool = False,
    factors: Array | None = None,
    extra_keys: Callable[[GGUFWriter], None] | None = None,
) -> SplitModel:
    """A random llama model, whole and in parts; `factors` are its `rope_freqs.weight`, as the last tensor."""

    def change(tensors: dict[str, Array]) -> None:
        if factors is not None:
            tensors["rope_freqs.weight"] = factors

    folder.mkdir(exist_ok=True)
    model = write_tiny_model(
        folder / "whole.gguf", train_length=TRAIN, change_tensors=change, extra_keys=extra_keys
    )

    def add_keys(writer: GGUFWriter) -> None:
        add_hyperparameters(writer, model)
        if extra_keys is not None:
            extra_keys(writer)

    parts = folder / "parts"
    parts.mkdir()
    write_gguf_of(
        model.arch,
        parts / "tiny.gguf",
        model.tensors,
        add_keys,
        tensors_per_part=tensors_per_part,
        metadata_first=metadata_first,
    )
    return SplitModel(model.path, tuple(sorted(parts.iterdir())))


def own_factors(model: TinyModel | None = None) -> Array:
    """Factors for the 8 pairs of every tiny llama model."""
    return np.linspace(1, 4, 8, dtype=np.float32)
