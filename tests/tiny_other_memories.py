"""Tiny random models that windows do not fit: recurrent, hybrid, with several positions for each token."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGUFWriter

from tiny_models import PIECES, Array, RandomTensors, write_gguf_of

N_EMBD = 32
N_FF = 48
N_LAYER = 2


def write_tiny_mamba(path: Path) -> Path:
    """Recurrent: a state space model, without attention."""
    d_inner, d_state, d_conv, dt_rank = 2 * N_EMBD, 8, 4, 4
    random, tensors = _begin()
    for layer in range(N_LAYER):
        block = {
            "attn_norm.weight": random.around_one(N_EMBD),
            "ssm_in.weight": random.matrix(2 * d_inner, N_EMBD, 1.0),
            "ssm_conv1d.weight": random.matrix(d_inner, d_conv, 1.0),
            "ssm_conv1d.bias": random.bias(d_inner),
            "ssm_x.weight": random.matrix(dt_rank + 2 * d_state, d_inner, 1.0),
            "ssm_dt.weight": random.matrix(d_inner, dt_rank, 1.0),
            "ssm_dt.bias": random.bias(d_inner),
            "ssm_a": -random.around_one(d_inner * d_state).reshape(d_inner, d_state),
            "ssm_d": random.around_one(d_inner),
            "ssm_out.weight": random.matrix(N_EMBD, d_inner, 1.0),
        }
        tensors |= {f"blk.{layer}.{name}": values for name, values in block.items()}

    def add_keys(writer: GGUFWriter) -> None:
        _add_sizes(writer)
        writer.add_ssm_conv_kernel(d_conv)
        writer.add_ssm_inner_size(d_inner)
        writer.add_ssm_state_size(d_state)
        writer.add_ssm_time_step_rank(dt_rank)

    write_gguf_of("mamba", path, tensors, add_keys)
    return path


def write_tiny_lfm2(path: Path) -> Path:
    """Hybrid: a short convolution in layer 0, attention in layer 1."""
    kernel, head_dim = 3, 16
    random, tensors = _begin()
    tensors["token_embd_norm.weight"] = tensors.pop("output_norm.weight")
    blocks = (
        {
            "shortconv.conv.weight": random.matrix(N_EMBD, kernel, 1.0),
            "shortconv.in_proj.weight": random.matrix(3 * N_EMBD, N_EMBD, 1.0),
            "shortconv.out_proj.weight": random.matrix(N_EMBD, N_EMBD, 1.0),
        },
        {
            "attn_q.weight": random.matrix(N_EMBD, N_EMBD, 1.0),
            "attn_k.weight": random.matrix(head_dim, N_EMBD, 1.0),
            "attn_v.weight": random.matrix(head_dim, N_EMBD, 1.0),
            "attn_output.weight": random.matrix(N_EMBD, N_EMBD, 1.0),
            "attn_q_norm.weight": random.around_one(head_dim),
            "attn_k_norm.weight": random.around_one(head_dim),
        },
    )
    for layer, block in enumerate(blocks):
        block |= {"attn_norm.weight": random.around_one(N_EMBD), **_feed_forward(random)}
        tensors |= {f"blk.{layer}.{name}": values for name, values in block.items()}

    def add_keys(writer: GGUFWriter) -> None:
        _add_sizes(writer)
        writer.add_head_count(2)
        writer.add_head_count_kv([0, 1])
        writer.add_rope_freq_base(10000.0)
        writer.add_shortconv_l_cache(kernel)

    write_gguf_of("lfm2", path, tensors, add_keys)
    return path


def write_tiny_qwen2vl(path: Path) -> Path:
    """M-RoPE: a token has a time, a row and a column."""
    random, tensors = _begin()
    for layer in range(N_LAYER):
        block = {
            "attn_norm.weight": random.around_one(N_EMBD),
            "attn_q.weight": random.matrix(N_EMBD, N_EMBD, 1.0),
            "attn_q.bias": random.bias(N_EMBD),
            "attn_k.weight": random.matrix(16, N_EMBD, 1.0),
            "attn_k.bias": random.bias(16),
            "attn_v.weight": random.matrix(16, N_EMBD, 1.0),
            "attn_v.bias": random.bias(16),
            "attn_output.weight": random.matrix(N_EMBD, N_EMBD, 1.0),
            **_feed_forward(random),
        }
        tensors |= {f"blk.{layer}.{name}": values for name, values in block.items()}

    def add_keys(writer: GGUFWriter) -> None:
        _add_sizes(writer)
        writer.add_head_count(2)
        writer.add_head_count_kv(1)
        writer.add_rope_freq_base(10000.0)
        writer.add_rope_dimension_count(16)
        writer.add_rope_dimension_sections([4, 2, 2, 0])

    write_gguf_of("qwen2vl", path, tensors, add_keys)
    return path


def _begin() -> tuple[RandomTensors, dict[str, Array]]:
    """A generator, and the tensors outside the layers."""
    random = RandomTensors(np.random.default_rng(0))
    return random, {
        "token_embd.weight": random.matrix(len(PIECES), N_EMBD, 1.0),
        "output_norm.weight": random.around_one(N_EMBD),
        "output.weight": random.matrix(len(PIECES), N_EMBD, 3.0),
    }


def _feed_forward(random: RandomTensors) -> dict[str, Array]:
    return {
        "ffn_norm.weight": random.around_one(N_EMBD),
        "ffn_gate.weight": random.matrix(N_FF, N_EMBD, 1.0),
        "ffn_up.weight": random.matrix(N_FF, N_EMBD, 1.0),
        "ffn_down.weight": random.matrix(N_EMBD, N_FF, 1.0),
    }


def _add_sizes(writer: GGUFWriter) -> None:
    writer.add_context_length(64)
    writer.add_embedding_length(N_EMBD)
    writer.add_block_count(N_LAYER)
    writer.add_feed_forward_length(N_FF)
    writer.add_layer_norm_rms_eps(1e-5)
