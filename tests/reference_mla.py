"""Latent attention in float64 NumPy, from DeepSeek-V2's equations 37 to 47 (DeepSeek-AI 2024, section 2.1).

Every head's keys are made of the latent, whichever form a file has: what is absorbed into what is the
library's affair. The part of a key that is rotated is shared by all heads and stands last. With
MiniCPM's scales (Hu et al. 2024, section 3.1) it is MiniCPM3.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reference_transformer import (
    Float64,
    MakePositions,
    Positions,
    attend,
    layer_weights,
    model_weights,
    project,
    rms_norm,
    rotate,
)
from tiny_mla import TinyMla


class ReferenceMla:
    """One sequence, read in batches; latents and unrotated keys are kept and turned anew for every batch."""

    def __init__(self, model: TinyMla, start: int = 0) -> None:
        """An empty sequence, whose first token stands at position `start`."""
        self._model = model
        self._start = start
        self._weights = model_weights(model)
        self._latents = [np.zeros((0, model.key_value_rank)) for _ in range(model.n_layer)]
        self._shared_keys = [np.zeros((0, 1, model.rope_dim)) for _ in range(model.n_layer)]

    def decode(self, tokens: Sequence[int], in_force: MakePositions) -> Float64:
        """Logits of a further batch, [tokens, vocabulary], with every key turned as `in_force` says now."""
        model, weights = self._model, self._weights
        m = self._start + np.arange(len(self._latents[0]) + len(tokens), dtype=np.float64)
        positions = in_force(m)
        mask = np.where(m[None, :] <= m[-len(tokens) :, None], 0.0, -np.inf)
        hidden = weights["token_embd.weight"][np.asarray(tokens)] * model.embedding_scale
        for layer in range(model.n_layer):
            w = layer_weights(weights, layer)
            x = rms_norm(hidden, w["attn_norm.weight"], model.rms_eps)
            hidden = hidden + model.residual_scale * self._attention(layer, w, x, positions, mask)
            x = rms_norm(hidden, w["ffn_norm.weight"], model.rms_eps)
            gate = project(x, w, "ffn_gate")
            gated = gate / (1.0 + np.exp(-gate)) * project(x, w, "ffn_up")
            hidden = hidden + model.residual_scale * project(gated, w, "ffn_down")
        final = rms_norm(hidden, weights["output_norm.weight"], model.rms_eps) * model.output_scale
        return np.asarray(final @ weights["output.weight"].T)

    def _attention(
        self, layer: int, w: dict[str, Float64], x: Float64, positions: Positions, mask: Float64
    ) -> Float64:
        model, count = self._model, len(x)
        q = project(
            rms_norm(project(x, w, "attn_q_a"), w["attn_q_a_norm.weight"], model.rms_eps), w, "attn_q_b"
        )
        q = q.reshape(count, model.n_head, model.head_dim)
        down = project(x, w, "attn_kv_a_mqa")
        latent = rms_norm(down[:, : model.key_value_rank], w["attn_kv_a_norm.weight"], model.rms_eps)
        self._latents[layer] = np.concatenate([self._latents[layer], latent])
        shared = down[:, None, model.key_value_rank :]
        self._shared_keys[layer] = np.concatenate([self._shared_keys[layer], shared])
        keys, values = self._expanded(w, self._latents[layer])
        shared = np.repeat(self._shared_keys[layer], model.n_head, axis=1)
        q = self._turned(q[..., : model.plain_dim], q[..., model.plain_dim :], positions, count)
        keys = self._turned(keys, shared, positions, len(keys))
        if positions.query_factor is not None:
            q = q * positions.query_factor[-count:, None, None]
        return project(attend(q, keys, values, mask), w, "attn_output")

    def _expanded(self, w: dict[str, Float64], latents: Float64) -> tuple[Float64, Float64]:
        """Equations 42 and 45: every head's unrotated keys and values, [tokens, heads, dimensions]."""
        model = self._model
        if model.form == "absorbed":
            keys, values = w["attn_k_b.weight"].swapaxes(1, 2), w["attn_v_b.weight"]
        else:
            both = w["attn_kv_b.weight"].reshape(model.n_head, -1, model.key_value_rank)
            keys, values = both[:, : model.plain_dim], both[:, model.plain_dim :]
        return np.einsum("hdr,tr->thd", keys, latents), np.einsum("hdr,tr->thd", values, latents)

    def _turned(self, plain: Float64, rotated: Float64, positions: Positions, count: int) -> Float64:
        """Heads of both parts.

        In the absorbed form the attention factor is one of the whole score, as DeepSeek's published code
        multiplies its softmax scale by mscale^2; elsewhere it belongs to the rotation.
        """
        factor, angles = positions.attention_factor, positions.angles[-count:]
        turned = rotate(rotated, angles, self._model.arch == "deepseek2", factor)
        if self._model.form == "absorbed":
            plain = factor * plain
        return np.concatenate([plain, turned], axis=2)
