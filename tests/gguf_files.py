"""Small GGUF files for tests of metadata: keys without a model, written by the `gguf` package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from gguf import GGUFWriter

KeyValues = Mapping[str, int | float | str | bool]


def write_rope_keys(
    path: Path,
    arch: str = "llama",
    *,
    n_rot: int = 64,
    base: float = 10000.0,
    context_length: int = 2048,
    keys: KeyValues | None = None,
    tensors: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """A file with the keys a rotation needs, and `keys` (without `{arch}.` before them)."""
    writer = GGUFWriter(str(path), arch)
    writer.add_context_length(context_length)
    if "block_count" not in (keys or {}):
        writer.add_block_count(2)
    writer.add_embedding_length(4 * n_rot)
    writer.add_head_count(4)
    writer.add_rope_dimension_count(n_rot)
    writer.add_rope_freq_base(base)
    for name, value in (keys or {}).items():
        key = f"{arch}.{name}"
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        else:
            writer.add_uint32(key, value)
    for name, values in (tensors or {"token_embd.weight": np.ones((3, 32), np.float32)}).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
