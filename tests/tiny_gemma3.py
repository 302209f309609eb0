"""Tiny random Gemma 3 models: layers that slide, with a base of their own, between layers that see all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGUFWriter, RopeScalingType

from tiny_models import PIECES, RMS_EPS, Array, RandomTensors, TinyModel, add_hyperparameters, write_gguf

PATTERN = 2
"""Every second layer sees everything (every sixth in the published models)."""

FEED_FORWARD_SHARE = np.float32(0.05)
"""On a CPU ggml looks GELU up in a table of F16 numbers: with a share of 1, logits would be 1e-2 off."""


@dataclass(frozen=True)
class TinyGemma3(TinyModel):
    """A Gemma 3 model; `rope_base` and `linear_factor` are those of the layers that see everything.

    Attributes:
        sliding_base: the rotary base of the sliding layers.
        window: tokens a sliding layer sees.
        linear_factor: the model's own scaling: positions are divided by it (8 in the published 4B).
    """

    sliding_base: float
    window: int
    linear_factor: float

    def slides(self, layer: int) -> bool:
        """Whether this layer sees only its window."""
        return layer % PATTERN < PATTERN - 1


def write_tiny_gemma3(
    path: Path,
    *,
    train_length: int = 64,
    window: int = 24,
    linear_factor: float = 1.0,
    query_deviation: float = 1.5,
    seed: int = 0,
) -> TinyGemma3:
    """Writes a random F32 model of four layers; scores deviate by the square of `query_deviation`."""
    model = TinyGemma3(
        path=path,
        arch="gemma3",
        n_layer=2 * PATTERN,
        n_embd=64,
        n_head=4,
        n_head_kv=2,
        head_dim=16,
        n_ff=96,
        train_length=train_length,
        rope_base=100000.0,
        rope_dim=16,
        rms_eps=RMS_EPS,
        tensors={},
        pieces=PIECES,
        sliding_base=10000.0,
        window=window,
        linear_factor=linear_factor,
    )
    random = RandomTensors(np.random.default_rng(seed))
    # the input is the embedding times sqrt(n_embd), and the output matrix is the embedding
    model.tensors["token_embd.weight"] = random.matrix(model.n_vocab, model.n_embd, 1.0)
    for layer in range(model.n_layer):
        for name, values in _block(model, random, query_deviation).items():
            model.tensors[f"blk.{layer}.{name}"] = values
    model.tensors["output_norm.weight"] = np.float32(2.0) * random.around_one(model.n_embd)

    def add_keys(writer: GGUFWriter) -> None:
        add_hyperparameters(writer, model)
        writer.add_sliding_window(window)
        writer.add_sliding_window_pattern(PATTERN)
        writer.add_rope_freq_base_swa(model.sliding_base)
        if linear_factor != 1.0:
            writer.add_rope_scaling_type(RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(linear_factor)

    write_gguf(model, add_keys)
    return model


def _block(model: TinyGemma3, random: RandomTensors, query_deviation: float) -> dict[str, Array]:
    q_width, kv_width = model.n_head * model.head_dim, model.n_head_kv * model.head_dim
    scale = np.float32(query_deviation)
    return {
        "attn_norm.weight": random.around_one(model.n_embd),
        "attn_q.weight": random.matrix(q_width, model.n_embd, 1.0),
        "attn_k.weight": random.matrix(kv_width, model.n_embd, 1.0),
        "attn_v.weight": random.matrix(kv_width, model.n_embd, 1.0),
        "attn_output.weight": random.matrix(model.n_embd, q_width, 1.0),
        "attn_q_norm.weight": scale * random.around_one(model.head_dim),
        "attn_k_norm.weight": scale * random.around_one(model.head_dim),
        "post_attention_norm.weight": random.around_one(model.n_embd),
        "ffn_norm.weight": random.around_one(model.n_embd),
        "ffn_gate.weight": random.matrix(model.n_ff, model.n_embd, 1.0),
        "ffn_up.weight": random.matrix(model.n_ff, model.n_embd, 1.0),
        "ffn_down.weight": random.matrix(model.n_embd, model.n_ff, 1.0),
        "post_ffw_norm.weight": FEED_FORWARD_SHARE * random.around_one(model.n_embd),
    }
