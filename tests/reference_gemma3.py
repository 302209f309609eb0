"""Gemma 3 in float64 NumPy, from its report (Gemma Team 2025, section 2) and transformers' equations.

Unlike the transformer of `reference_transformer`: embeddings are multiplied by sqrt(n_embd), q and k of
every head are normalized before the rotation, what attention and the feed-forward network put out is
normalized once more before it is added, the gate is GELU, and the output matrix is the embedding. Most
layers see a window only and rotate with a base of their own: a method does not concern them.
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
from tiny_gemma3 import TinyGemma3


def sliding_frequencies(model: TinyGemma3) -> Float64:
    """theta_i of the sliding layers, radians per token."""
    pairs = np.arange(model.rope_dim // 2, dtype=np.float64)
    return np.asarray(model.sliding_base ** (-2.0 * pairs / model.rope_dim), dtype=np.float64)


class ReferenceGemma3:
    """One sequence, read in batches; keys are kept unrotated and turned anew for every batch."""

    def __init__(self, model: TinyGemma3, start: int = 0) -> None:
        """An empty sequence, whose first token stands at position `start`."""
        self._model = model
        self._start = start
        self._weights = model_weights(model)
        self._keys = [np.zeros((0, model.n_head_kv, model.head_dim)) for _ in range(model.n_layer)]
        self._values = [np.zeros((0, model.n_head_kv, model.head_dim)) for _ in range(model.n_layer)]

    def decode(
        self, tokens: Sequence[int], in_force: MakePositions, sliding: MakePositions | None = None
    ) -> Float64:
        """Logits of a further batch, [tokens, vocabulary].

        Args:
            tokens: the batch.
            in_force: what is made of positions in the layers that see everything.
            sliding: and in the others; None where they rotate as trained.
        """
        model = self._model
        m = self._start + np.arange(len(self._keys[0]) + len(tokens), dtype=np.float64)
        full = in_force(m)
        near = Positions(np.outer(m, sliding_frequencies(model))) if sliding is None else sliding(m)
        embedding = self._weights["token_embd.weight"]
        hidden = embedding[np.asarray(tokens)] * np.sqrt(model.n_embd)
        distance = m[-len(tokens) :, None] - m[None, :]
        for layer in range(model.n_layer):
            slides = model.slides(layer)
            seen = (distance >= 0) & (distance < (model.window if slides else np.inf))
            mask = np.where(seen, 0.0, -np.inf)
            hidden = self._layer(layer, hidden, near if slides else full, mask)
        final = rms_norm(hidden, self._weights["output_norm.weight"], model.rms_eps)
        return np.asarray(final @ embedding.T)

    def _layer(self, layer: int, hidden: Float64, positions: Positions, mask: Float64) -> Float64:
        w = layer_weights(self._weights, layer)
        attended = self._attention(layer, w, self._norm(w, "attn_norm", hidden), positions, mask)
        hidden = hidden + self._norm(w, "post_attention_norm", project(attended, w, "attn_output"))
        x = self._norm(w, "ffn_norm", hidden)
        gated = _gelu(project(x, w, "ffn_gate")) * project(x, w, "ffn_up")
        return np.asarray(hidden + self._norm(w, "post_ffw_norm", project(gated, w, "ffn_down")))

    def _attention(
        self, layer: int, w: dict[str, Float64], x: Float64, positions: Positions, mask: Float64
    ) -> Float64:
        model, count = self._model, len(x)
        q = project(x, w, "attn_q").reshape(count, model.n_head, model.head_dim)
        k = project(x, w, "attn_k").reshape(count, model.n_head_kv, model.head_dim)
        v = project(x, w, "attn_v").reshape(count, model.n_head_kv, model.head_dim)
        self._keys[layer] = np.concatenate([self._keys[layer], self._norm(w, "attn_k_norm", k)])
        self._values[layer] = np.concatenate([self._values[layer], v])
        factor = positions.attention_factor
        q = rotate(self._norm(w, "attn_q_norm", q), positions.angles[-count:], False, factor)
        keys = rotate(self._keys[layer], positions.angles, False, factor)
        if positions.query_factor is not None:
            q = q * positions.query_factor[-count:, None, None]
        return attend(q, keys, self._values[layer], mask)

    def _norm(self, w: dict[str, Float64], name: str, x: Float64) -> Float64:
        return rms_norm(x, w[f"{name}.weight"], self._model.rms_eps)


def _gelu(x: Float64) -> Float64:
    """The tanh form (Hendrycks and Gimpel 2016, section 2)."""
    return np.asarray(0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3))))
