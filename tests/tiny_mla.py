"""Tiny random models with latent attention: DeepSeek-V2's in both forms a file can have, and MiniCPM3's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from gguf import GGUFWriter

from tiny_models import PIECES, Array, RandomTensors, TinyModel, add_hyperparameters, write_gguf

Form = Literal["absorbed", "expanded", "minicpm3"]
"""How llama.cpp computes it: `absorbed`, it caches latents (newer deepseek2 files); `expanded`, it caches
every head's keys and values (older deepseek2 files without `key_length_mla`, and minicpm3)."""


@dataclass(frozen=True)
class TinyMla(TinyModel):
    """A model with latent attention (DeepSeek-AI 2024, section 2.1); `rope_dim` is the paper's d_h^R.

    Attributes:
        form: what its file says.
        plain_dim: d_h, the dimensions of a head that are not rotated and stand before the rotated ones.
        value_dim: of a head.
        query_rank: d_c', of the queries' latent.
        key_value_rank: d_c, of the keys' and values' latent.
        embedding_scale: multiplies embeddings (MiniCPM's scale_emb).
        residual_scale: multiplies what is added to the residual stream (its scale_depth / sqrt(layers)).
        output_scale: multiplies what the output matrix is given (its dim_model_base / hidden_size).
    """

    form: Form
    plain_dim: int
    value_dim: int
    query_rank: int
    key_value_rank: int
    embedding_scale: float
    residual_scale: float
    output_scale: float


def write_tiny_mla(
    path: Path,
    form: Form,
    *,
    n_layer: int = 2,
    train_length: int = 64,
    query_deviation: float = 1.5,
    seed: int = 0,
) -> TinyMla:
    """Writes a random F32 model without experts to `path`; scores deviate by the deviation's square."""
    scaled = form == "minicpm3"
    model = TinyMla(
        path=path,
        arch="minicpm3" if scaled else "deepseek2",
        n_layer=n_layer,
        n_embd=64,
        n_head=4,
        n_head_kv=4,
        head_dim=20,
        n_ff=96,
        train_length=train_length,
        rope_base=10000.0,
        rope_dim=8,
        rms_eps=1e-6,  # as published; transformers norms latents with it whatever the config says
        tensors={},
        pieces=PIECES,
        form=form,
        plain_dim=12,
        value_dim=16,
        query_rank=20,
        key_value_rank=24,
        embedding_scale=12.0 if scaled else 1.0,
        residual_scale=1.4 / np.sqrt(n_layer) if scaled else 1.0,
        output_scale=256.0 / 64.0 if scaled else 1.0,
    )
    model.tensors.update(_tensors(model, RandomTensors(np.random.default_rng(seed)), query_deviation))
    write_gguf(model, lambda writer: _add_keys(writer, model))
    return model


def _add_keys(writer: GGUFWriter, model: TinyMla) -> None:
    if model.form == "absorbed":
        # for the cache it is one head, of the latent and the shared key
        cached = replace(model, n_head_kv=1, head_dim=model.key_value_rank + model.rope_dim)
        add_hyperparameters(writer, cached, value_length=model.key_value_rank)
        writer.add_key_length_mla(model.head_dim)
        writer.add_value_length_mla(model.value_dim)
    else:
        add_hyperparameters(writer, model, value_length=model.value_dim)
    writer.add_q_lora_rank(model.query_rank)
    writer.add_kv_lora_rank(model.key_value_rank)
    if model.arch == "deepseek2":
        writer.add_leading_dense_block_count(model.n_layer)
        writer.add_expert_feed_forward_length(model.n_ff)
        writer.add_expert_shared_count(0)


def _tensors(model: TinyMla, random: RandomTensors, query_deviation: float) -> dict[str, Array]:
    embedding_deviation = np.sqrt(model.n_embd) / model.embedding_scale
    tensors = {"token_embd.weight": random.matrix(model.n_vocab, model.n_embd, embedding_deviation)}
    for layer in range(model.n_layer):
        block = _attention(model, random, query_deviation) | {
            "attn_norm": random.around_one(model.n_embd),
            "ffn_norm": random.around_one(model.n_embd),
            "ffn_gate": random.matrix(model.n_ff, model.n_embd, 1.0),
            "ffn_up": random.matrix(model.n_ff, model.n_embd, 1.0),
            "ffn_down": random.matrix(model.n_embd, model.n_ff, 1.0),
        }
        tensors |= {f"blk.{layer}.{name}.weight": values for name, values in block.items()}
    tensors["output_norm.weight"] = random.around_one(model.n_embd)
    tensors["output.weight"] = random.matrix(model.n_vocab, model.n_embd, 3.0 / model.output_scale)
    return tensors


def _attention(model: TinyMla, random: RandomTensors, query_deviation: float) -> dict[str, Array]:
    n_head, rank, plain = model.n_head, model.key_value_rank, model.plain_dim
    latent = random.matrix(rank, model.n_embd, 1.0)
    shared_key = random.matrix(model.rope_dim, model.n_embd, query_deviation)
    keys = random.matrix(n_head * plain, rank, query_deviation).reshape(n_head, plain, rank)
    values = random.matrix(n_head * model.value_dim, rank, 1.0).reshape(n_head, model.value_dim, rank)
    tensors = {
        "attn_q_a": random.matrix(model.query_rank, model.n_embd, 1.0),
        "attn_q_a_norm": random.around_one(model.query_rank),
        "attn_q_b": random.matrix(n_head * model.head_dim, model.query_rank, query_deviation),
        "attn_kv_a_mqa": np.concatenate([latent, shared_key]),
        "attn_kv_a_norm": random.around_one(rank),
        "attn_output": random.matrix(model.n_embd, n_head * model.value_dim, 1.0),
    }
    if model.form == "absorbed":
        return tensors | {"attn_k_b": np.ascontiguousarray(keys.swapaxes(1, 2)), "attn_v_b": values}
    return tensors | {"attn_kv_b": np.concatenate([keys, values], axis=1).reshape(-1, rank)}
