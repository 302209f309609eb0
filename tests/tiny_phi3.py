"""Tiny random Phi-3 models: fused projections, heads rotated in part, and LongRoPE's two lists of factors."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from gguf import GGUFWriter, RopeScalingType

from tiny_models import PIECES, RMS_EPS, RandomTensors, TinyModel, add_hyperparameters, write_gguf


@dataclass(frozen=True)
class TinyPhi3(TinyModel):
    """A Phi-3 model; `train_length` is the length that its lists extend it to.

    Attributes:
        original_length: tokens it was trained on before; the short list is for texts up to it.
        short_factors: LongRoPE's lists, `rope_dim/2` numbers each.
        long_factors: the list for longer texts.
        attention_factor: the multiplier on rotated q and on rotated k.
    """

    original_length: int
    short_factors: tuple[float, ...]
    long_factors: tuple[float, ...]
    attention_factor: float


def write_tiny_phi3(
    path: Path, *, original_length: int = 64, train_length: int = 128, seed: int = 0
) -> TinyPhi3:
    """Writes a random F32 model to `path`; three quarters of a head are rotated, as in Phi-4-mini."""
    n_pairs = 6
    model = TinyPhi3(
        path=path,
        arch="phi3",
        n_layer=2,
        n_embd=64,
        n_head=4,
        n_head_kv=2,
        head_dim=16,
        n_ff=96,
        train_length=train_length,
        rope_base=10000.0,
        rope_dim=2 * n_pairs,
        rms_eps=RMS_EPS,
        tensors={},
        pieces=PIECES,
        original_length=original_length,
        short_factors=tuple(1.0 + 0.125 * i for i in range(n_pairs)),
        long_factors=tuple(1.0 + 0.75 * i for i in range(n_pairs)),
        attention_factor=longrope_attention_factor(train_length, original_length),
    )
    random = RandomTensors(np.random.default_rng(seed))
    model.tensors.update(_tensors(model, random))
    model.tensors["rope_factors_short.weight"] = np.asarray(model.short_factors, dtype=np.float32)
    model.tensors["rope_factors_long.weight"] = np.asarray(model.long_factors, dtype=np.float32)

    def add_keys(writer: GGUFWriter) -> None:
        add_hyperparameters(writer, model)
        writer.add_rope_scaling_type(RopeScalingType.LONGROPE)
        writer.add_rope_scaling_orig_ctx_len(original_length)
        writer.add_rope_scaling_attn_factors(model.attention_factor)

    write_gguf(model, add_keys)
    return model


def longrope_attention_factor(full_length: int, original_length: int) -> float:
    """sqrt(1 + ln s / ln L), as Phi-3's published code computes it."""
    return math.sqrt(1.0 + math.log(full_length / original_length) / math.log(original_length))


def unfused(model: TinyPhi3) -> TinyPhi3:
    """The same model with q, k, v, gate and up as tensors of their own: what the reference reads."""
    kv_width = model.n_head_kv * model.head_dim
    q_end, k_end = model.n_head * model.head_dim, model.n_head * model.head_dim + kv_width
    tensors = {}
    for name, values in model.tensors.items():
        place, _, part = name.removesuffix(".weight").rpartition(".")
        parts = {part: values}
        if part == "attn_qkv":
            parts = {
                "attn_q": values[:q_end],
                "attn_k": values[q_end:k_end],
                "attn_v": values[k_end:],
            }
        if part == "ffn_up":
            parts = {"ffn_gate": values[: model.n_ff], "ffn_up": values[model.n_ff :]}
        for each, rows in parts.items():
            tensors[f"{place}.{each}.weight" if place else f"{each}.weight"] = rows
    return replace(model, tensors=tensors)


def _tensors(model: TinyPhi3, random: RandomTensors) -> dict[str, np.ndarray]:
    q_width, kv_width = model.n_head * model.head_dim, model.n_head_kv * model.head_dim
    tensors = {"token_embd.weight": random.matrix(model.n_vocab, model.n_embd, np.sqrt(model.n_embd))}
    for layer in range(model.n_layer):
        q, k, v = (
            random.matrix(q_width, model.n_embd, 1.5),
            random.matrix(kv_width, model.n_embd, 1.5),
            random.matrix(kv_width, model.n_embd, 1.0),
        )
        block = {
            "attn_norm": random.around_one(model.n_embd),
            "attn_qkv": np.concatenate([q, k, v]),
            "attn_output": random.matrix(model.n_embd, q_width, 1.0),
            "ffn_norm": random.around_one(model.n_embd),
            "ffn_up": random.matrix(2 * model.n_ff, model.n_embd, 1.0),
            "ffn_down": random.matrix(model.n_embd, model.n_ff, 1.0),
        }
        tensors |= {f"blk.{layer}.{name}.weight": values for name, values in block.items()}
    tensors["output_norm.weight"] = random.around_one(model.n_embd)
    tensors["output.weight"] = random.matrix(model.n_vocab, model.n_embd, 3.0)
    return tensors
