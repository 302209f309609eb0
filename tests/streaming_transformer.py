"""StreamingLLM with a window that moves in blocks, in float64: the oracle for streaming plans.

Two readings of the method, which know nothing of each other:

* `streaming_logits` is the rule. Let w_l be the windows, n the sinks, B = min(256, max(1, min(w) // 8)). A
  query at p, in block b = p // B, sees the keys at p0 <= p with p - p0 < w_l or p0 < n. A sink j is turned
  as if it stood at j + max(0, b B - w_l + 1 - n); every other key keeps its distance p - p0.
* `literal_logits` is the paper's Section 3.2 word by word, for one query of a model of one layer: a cache of
  the first n tokens and the last w, and positions counted within that cache. Both agree where a block begins,
  when the sinks stand just before the window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reference_transformer import (
    Float64,
    attend,
    final_logits,
    finish_layer,
    layer_weights,
    model_weights,
    plain_frequencies,
    project_heads,
    rotate,
)
from tiny_models import TinyModel


@dataclass(frozen=True)
class Stream:
    """What a streaming plan says.

    Attributes:
        windows: tokens each layer sees, one per layer, all above 0.
        sinks: the first tokens, which every layer goes on seeing.
        factors: f_i, [n_rot/2]; None for 1.
        attention_factor: multiplier on rotated q and on rotated k.
    """

    windows: tuple[int, ...]
    sinks: int
    factors: tuple[float, ...] | None = None
    attention_factor: float = 1.0

    @property
    def block(self) -> int:
        """B, the tokens between two moves of the window."""
        return min(256, max(1, min(self.windows) // 8))

    @property
    def period(self) -> int:
        """Tokens after which the library counts its keys' positions anew, unseen outside: four windows."""
        return -(-4 * max(self.windows) // self.block) * self.block

    def sinks_moved(self, query: int, window: int) -> int:
        """How far the sinks stand from where they were written, for a query at this position."""
        block_start = query // self.block * self.block
        return max(0, block_start - window + 1 - self.sinks)


def stream_frequencies(model: TinyModel, stream: Stream) -> Float64:
    """theta_i of the plan, radians per token, [n_rot/2]."""
    theta = plain_frequencies(model)
    return theta if stream.factors is None else np.asarray(theta / np.asarray(stream.factors))


def streaming_logits(model: TinyModel, tokens: Sequence[int], stream: Stream) -> Float64:
    """Logits of every token, [tokens, vocabulary], of one pass over the stream, by the rule."""
    weights = model_weights(model)
    hidden = weights["token_embd.weight"][np.asarray(tokens)]
    for layer in range(model.n_layer):
        w = layer_weights(weights, layer)
        heads = project_heads(model, w, hidden)
        attended = np.concatenate(
            [
                _attend_in_block(model, stream, layer, start, heads)
                for start in range(0, len(tokens), stream.block)
            ]
        )
        hidden = finish_layer(model, w, hidden, attended)
    return final_logits(model, weights, hidden)


def _attend_in_block(
    model: TinyModel, stream: Stream, layer: int, start: int, heads: tuple[Float64, Float64, Float64]
) -> Float64:
    """What the queries of the block that begins at `start` gather, [queries, n_head * head_dim]."""
    q, k, v = heads
    window = stream.windows[layer]
    p = np.arange(start, min(start + stream.block, len(q)))
    sinks = np.arange(min(stream.sinks, p[-1] + 1))
    others = np.arange(max(stream.sinks, start - window + 1), p[-1] + 1)
    keys = np.concatenate([sinks, others])
    stand_at = np.concatenate([sinks + stream.sinks_moved(start, window), others])
    theta, interleaved = stream_frequencies(model, stream), model.arch == "llama"
    distance = p[:, None] - keys[None, :]
    visible = (distance >= 0) & ((distance < window) | (keys < stream.sinks)[None, :])
    turned_q = stream.attention_factor * rotate(q[p], np.outer(p - start, theta), interleaved)
    turned_k = stream.attention_factor * rotate(k[keys], np.outer(stand_at - start, theta), interleaved)
    return attend(turned_q, turned_k, v[keys], np.where(visible, 0.0, -np.inf))


def literal_logits(model: TinyModel, tokens: Sequence[int], stream: Stream) -> Float64:
    """Logits of the last of these tokens, [vocabulary], by the paper; the model has one layer.

    Raises:
        ValueError: the model has several layers, whose keys would hang together with earlier windows.
    """
    if model.n_layer != 1:
        raise ValueError("only the keys of a single layer follow from the tokens in the cache alone")
    (window,) = stream.windows
    rolling = max(stream.sinks, len(tokens) - window)
    cache = [*tokens[: stream.sinks], *tokens[rolling:]]
    weights = model_weights(model)
    w = layer_weights(weights, 0)
    hidden = weights["token_embd.weight"][np.asarray(cache)]
    q, k, v = project_heads(model, w, hidden)
    positions = np.arange(len(cache), dtype=np.float64)
    angles = np.outer(positions, stream_frequencies(model, stream))
    interleaved = model.arch == "llama"
    turned_q = stream.attention_factor * rotate(q[-1:], angles[-1:], interleaved)
    turned_k = stream.attention_factor * rotate(k, angles, interleaved)
    attended = attend(turned_q, turned_k, v, np.zeros((1, len(cache))))
    return np.asarray(final_logits(model, weights, finish_layer(model, w, hidden[-1:], attended))[0])
