"""Calls of llama.cpp's quantizer without anything of ours between: what the library itself does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from gguf import GGMLQuantizationType, GGUFReader

from ropewalk_convert.quantizer_log import TensorChange, tensor_changes
from ropewalk_convert.reporting_child import ReportingChild
from tiny_models import TinyModel, write_tiny_model

_BATCH = Path(__file__).with_name("quantizer_batch.py")


def wide_model(path: Path, **options: Any) -> TinyModel:  # noqa: ANN401  # whatever `write_tiny_model` takes
    """A tiny model whose rows are whole blocks of 256, as the K-types need."""
    shape = {"n_embd": 256, "head_dim": 64, "n_ff": 512, "n_layer": 2} | options
    return write_tiny_model(path, **shape)


def call(source: Path, out: Path, file_type: int, **options: object) -> dict[str, object]:
    """A request of `quantize_child`."""
    nothing: dict[str, object] = {
        "dry_run": False,
        "output_tensor_type": None,
        "token_embedding_type": None,
        "tensor_types": [],
        "pure": False,
        "keep_output_tensor": False,
        "allow_requantize": False,
        "threads": 1,
        "imatrix": None,
        "keys": [],
    }
    return {"source": str(source), "out": str(out), "file_type": file_type} | nothing | options


def logs_of(calls: Sequence[dict[str, object]]) -> list[list[str]]:
    """Runs the calls, all of which must succeed; llama.cpp's log of each."""
    logs: list[list[str]] = []
    statuses = []
    with ReportingChild(_BATCH, {"calls": calls}) as child:
        for message in child.messages():
            if "call" in message:
                logs.append([])
            elif "log" in message:
                logs[-1].append(message["log"][1])
            elif "status" in message:
                statuses.append(message["status"])
        end = child.end()
    assert statuses == [0] * len(calls), (statuses, logs[-1][-3:], end)
    return logs


def changes_of(lines: Iterable[str]) -> dict[str, TensorChange]:
    """What becomes of each tensor, by name."""
    return {change.name: change for change in tensor_changes(lines)}


def stored_types(path: Path) -> dict[str, str]:
    """The type of each tensor, by the `gguf` package."""
    return {tensor.name: GGMLQuantizationType(tensor.tensor_type).name for tensor in GGUFReader(path).tensors}
