"""Random LoRA adapters for tiny models (Hu et al. 2021), as GGUF files, and the weights they merge to."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGUFWriter

from tiny_models import Array, TinyModel

ADAPTED = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


@dataclass(frozen=True)
class TinyAdapter:
    """What was written.

    Attributes:
        alpha: the update is `scale * alpha / rank * B A`, the scale given when the adapter is put on.
        pairs: A, [rank, columns], and B, [rows, rank], by the name of the weight, [rows, columns].
    """

    path: Path
    rank: int
    alpha: float
    pairs: dict[str, tuple[Array, Array]]

    def merged(self, model: TinyModel, scale: float) -> TinyModel:
        """The model with the update in its weights; its file is the one without."""
        tensors = dict(model.tensors)
        for name, (a, b) in self.pairs.items():
            update = scale * self.alpha / self.rank * (b.astype(np.float64) @ a.astype(np.float64))
            tensors[name] = (tensors[name] + update).astype(np.float32)
        return dataclasses.replace(model, tensors=tensors)


def write_tiny_adapter(path: Path, model: TinyModel, *, rank: int = 4, seed: int = 0) -> TinyAdapter:
    """Adapters for every projection of every layer, which change each weight by about a third of it."""
    rng = np.random.default_rng(seed)
    alpha = 2.0 * rank
    pairs = {}
    for layer in range(model.n_layer):
        for kind in ADAPTED:
            name = f"blk.{layer}.{kind}.weight"
            rows, columns = model.tensors[name].shape
            spread = float(model.tensors[name].std()) / 3
            a = rng.normal(0.0, 1.0, (rank, columns)).astype(np.float32)
            b = rng.normal(0.0, spread / 2 / np.sqrt(rank), (rows, rank)).astype(np.float32)
            pairs[name] = (a, b)

    writer = GGUFWriter(str(path), model.arch)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", alpha)
    for name, (a, b) in pairs.items():
        writer.add_tensor(f"{name}.lora_a", a)
        writer.add_tensor(f"{name}.lora_b", b)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return TinyAdapter(path, rank, alpha, pairs)
