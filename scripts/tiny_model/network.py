"""The tiny model's shape."""

from __future__ import annotations

import torch
import transformers

from tiny_model.vocabulary import BOS, EOS, N_PIECES

TRAIN_LENGTH = 256
"""L in tokens."""


def new_model(seed: int) -> transformers.LlamaForCausalLM:
    """A Llama of 0.9 million parameters with random weights: 4 layers of width 128, 4 heads of 32."""
    config = transformers.LlamaConfig(
        vocab_size=N_PIECES,
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=TRAIN_LENGTH,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=None,
    )
    torch.manual_seed(seed)
    return transformers.LlamaForCausalLM(config)
