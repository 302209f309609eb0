"""Small folders that look like checkpoints, written by the safetensors library; no model is in them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

INDEX = "model.safetensors.index.json"

Arrays = dict[str, np.ndarray]


def arrays(n_layer: int = 2) -> Arrays:
    """Some tensors, by names that a llama checkpoint has: 16 * 8 + n_layer * (8 * 8 + 8) numbers."""
    named: Arrays = {"model.embed_tokens.weight": np.arange(128, dtype=np.float16).reshape(16, 8)}
    for layer in range(n_layer):
        named[f"model.layers.{layer}.self_attn.q_proj.weight"] = np.full((8, 8), layer, np.float16)
        named[f"model.layers.{layer}.input_layernorm.weight"] = np.ones(8, np.float16)
    return named


def write_folder(folder: Path, config: Mapping[str, object] | None = None, *, shards: int = 1) -> Path:
    """A whole checkpoint's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(
        folder / "config.json", {"architectures": ["LlamaForCausalLM"], "vocab_size": 16, **(config or {})}
    )
    (folder / "tokenizer.json").write_text("{}")
    if shards == 1:
        save_file(arrays(), folder / "model.safetensors", {"format": "pt"})
        return folder
    names = sorted(arrays())
    files = {f"model-{i + 1:05d}-of-{shards:05d}.safetensors": names[i::shards] for i in range(shards)}
    for file, held in files.items():
        save_file({name: arrays()[name] for name in held}, folder / file)
    write_json(
        folder / INDEX,
        {"metadata": {"total_size": 0}, "weight_map": {name: file for file in files for name in files[file]}},
    )
    return folder


def write_json(path: Path, value: object) -> None:
    """A value as a JSON file."""
    path.write_text(json.dumps(value))


def safetensors_bytes(header: object, data: bytes) -> bytes:
    """A safetensors file by hand, so that it can be wrong: the header as JSON, or as bytes."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data
