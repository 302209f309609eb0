"""A decoder-only transformer in float64 NumPy: the oracle for the library's logits.

It is written from the papers' equations and knows nothing of plans: a test hands it the angle of every
rotary pair at every position, the factor on rotated q and k, and the factor on q, each computed
in the test from the method's own equation. Keys are kept unrotated and turned anew for every batch: under a
schedule all keys agree with the factors in force, while values and deeper states stay as computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tiny_models import TinyModel

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Positions:
    """What a method makes of the positions of a batch.

    Attributes:
        angles: radians, [tokens, n_rot/2]: how far each pair turns.
        attention_factor: multiplier on rotated q and on rotated k.
        query_factor: [tokens], multiplier on q (LogN); None for none.
    """

    angles: Float64
    attention_factor: float = 1.0
    query_factor: Float64 | None = None


def plain_frequencies(model: TinyModel) -> Float64:
    """theta_i = base^(-2i/d), radians per token, [d/2] (Su et al. 2021, section 3.2.2)."""
    pairs = np.arange(model.rope_dim // 2, dtype=np.float64)
    return np.asarray(model.rope_base ** (-2.0 * pairs / model.rope_dim), dtype=np.float64)


def plain_positions(model: TinyModel, n_tokens: int, start: int = 0) -> Positions:
    """RoPE as trained: angle m * theta_i."""
    m = np.arange(start, start + n_tokens, dtype=np.float64)
    return Positions(np.outer(m, plain_frequencies(model)))


def reference_logits(model: TinyModel, tokens: Sequence[int], positions: Positions) -> Float64:
    """Logits of every token, [tokens, vocabulary], of one causal pass over `tokens`."""
    return ReferenceTransformer(model).decode(tokens, lambda m: positions)


MakePositions = Callable[[Float64], Positions]
"""Positions m, [tokens], to what is in force makes of them."""


class ReferenceTransformer:
    """One sequence, read in batches."""

    def __init__(self, model: TinyModel) -> None:
        """An empty sequence."""
        self._model = model
        self._weights = model_weights(model)
        self._keys = [np.zeros((0, model.n_head_kv, model.head_dim)) for _ in range(model.n_layer)]
        self._values = [np.zeros((0, model.n_head_kv, model.head_dim)) for _ in range(model.n_layer)]

    def decode(self, tokens: Sequence[int], in_force: MakePositions) -> Float64:
        """Logits of a further batch, [tokens, vocabulary], with every key turned as `in_force` says now."""
        model = self._model
        held, count = len(self._keys[0]), len(tokens)
        positions = in_force(np.arange(held + count, dtype=np.float64))
        hidden = self._weights["token_embd.weight"][np.asarray(tokens)]
        visible = np.arange(held + count)[None, :] <= np.arange(held, held + count)[:, None]
        mask = np.where(visible, 0.0, -np.inf)
        for layer in range(model.n_layer):
            hidden = self._layer(layer, hidden, positions, mask)
        return final_logits(model, self._weights, hidden)

    def _layer(self, layer: int, hidden: Float64, positions: Positions, mask: Float64) -> Float64:
        model, count = self._model, len(hidden)
        w = layer_weights(self._weights, layer)
        q, k, v = project_heads(model, w, hidden)
        self._keys[layer] = np.concatenate([self._keys[layer], k])
        self._values[layer] = np.concatenate([self._values[layer], v])
        interleaved = model.arch == "llama"
        factor = positions.attention_factor
        q = rotate(q, positions.angles[-count:], interleaved, factor)
        keys = rotate(self._keys[layer], positions.angles, interleaved, factor)
        if positions.query_factor is not None:
            q = q * positions.query_factor[-count:, None, None]
        return finish_layer(model, w, hidden, attend(q, keys, self._values[layer], mask))


def layer_weights(weights: dict[str, Float64], layer: int) -> dict[str, Float64]:
    """The tensors of one layer, by their names without the prefix."""
    prefix = f"blk.{layer}."
    return {name.removeprefix(prefix): v for name, v in weights.items() if name.startswith(prefix)}


def project_heads(
    model: TinyModel, w: dict[str, Float64], hidden: Float64
) -> tuple[Float64, Float64, Float64]:
    """q, k and v of one layer, each [tokens, heads, head_dim], before any rotation."""
    count = len(hidden)
    x = rms_norm(hidden, w["attn_norm.weight"], model.rms_eps)
    q = project(x, w, "attn_q").reshape(count, model.n_head, model.head_dim)
    k = project(x, w, "attn_k").reshape(count, model.n_head_kv, model.head_dim)
    v = project(x, w, "attn_v").reshape(count, model.n_head_kv, model.head_dim)
    if model.arch == "qwen3":
        q = rms_norm(q, w["attn_q_norm.weight"], model.rms_eps)
        k = rms_norm(k, w["attn_k_norm.weight"], model.rms_eps)
    return q, k, v


def attend(q: Float64, keys: Float64, values: Float64, mask: Float64) -> Float64:
    """Softmax attention of rotated q and keys, [tokens, n_head * head_dim]; `mask` is [tokens, keys]."""
    n_head, group = q.shape[1], q.shape[1] // keys.shape[1]
    heads = []
    for head in range(n_head):
        scores = q[:, head] @ keys[:, head // group].T / np.sqrt(q.shape[2]) + mask
        heads.append(_softmax(scores) @ values[:, head // group])
    return np.concatenate(heads, axis=1)


def finish_layer(model: TinyModel, w: dict[str, Float64], hidden: Float64, attended: Float64) -> Float64:
    """What a layer hands on: the output projection and the feed-forward network, each added to its input."""
    hidden = hidden + project(attended, w, "attn_output")
    x = rms_norm(hidden, w["ffn_norm.weight"], model.rms_eps)
    gate = project(x, w, "ffn_gate")
    return np.asarray(hidden + project(gate / (1.0 + np.exp(-gate)) * project(x, w, "ffn_up"), w, "ffn_down"))


def final_logits(model: TinyModel, weights: dict[str, Float64], hidden: Float64) -> Float64:
    """[tokens, vocabulary]"""
    final = rms_norm(hidden, weights["output_norm.weight"], model.rms_eps)
    return np.asarray(final @ weights["output.weight"].T)


def model_weights(model: TinyModel) -> dict[str, Float64]:
    """All tensors in float64."""
    return {name: values.astype(np.float64) for name, values in model.tensors.items()}


def project(x: Float64, weights: dict[str, Float64], name: str) -> Float64:
    """`y = W x + b` with the weights of that name."""
    y = x @ weights[f"{name}.weight"].T
    bias = weights.get(f"{name}.bias")
    return np.asarray(y if bias is None else y + bias)


def rms_norm(x: Float64, weight: Float64, epsilon: float) -> Float64:
    """RMSNorm (Zhang and Sennrich 2019)."""
    return np.asarray(x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + epsilon) * weight)


def _softmax(scores: Float64) -> Float64:
    """Over the last axis."""
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def rotate(x: Float64, angles: Float64, interleaved: bool, factor: float = 1.0) -> Float64:
    """Turns pair i of every head by `angles[:, i]` and multiplies it by `factor` (YaRN's mscale).

    Dimensions beyond the pairs (heads that are rotated in part) stay as they are.
    """
    n_pairs = angles.shape[1]
    first, second = (
        (slice(0, 2 * n_pairs, 2), slice(1, 2 * n_pairs, 2))
        if interleaved
        else (slice(0, n_pairs), slice(n_pairs, 2 * n_pairs))
    )
    cos, sin = factor * np.cos(angles)[:, None, :], factor * np.sin(angles)[:, None, :]
    turned = x.copy()
    turned[..., first] = x[..., first] * cos - x[..., second] * sin
    turned[..., second] = x[..., first] * sin + x[..., second] * cos
    return np.asarray(turned)
