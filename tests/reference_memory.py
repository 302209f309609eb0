"""A decoder-only transformer in float64 NumPy with a memory of several sequences: the oracle for modes.

Where `reference_transformer` reads one sequence, this one holds cells as llama.cpp's memory does: each has a
position and belongs to sequences; sequences are copied, cut and moved. Keys are kept unrotated, so that
a moved key *is* the key computed fresh at its new position. A `Rounding` says what a store of few bits
makes of keys, values and queries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from reference_transformer import (
    Float64,
    Positions,
    attend,
    finish_layer,
    layer_weights,
    model_weights,
    project_heads,
    rotate,
)
from tiny_models import TinyModel

InForce = Callable[[int, Float64], Positions]
"""(layer, positions m) -> what is in force there makes of them."""

Round = Callable[[Float64], Float64]
"""What a store makes of vectors, [..., head_dim]."""


def exactly(x: Float64) -> Float64:
    """No rounding."""
    return x


@dataclass(frozen=True)
class Rounding:
    """What becomes of rotated keys, of values, and of rotated and scaled queries."""

    key: Round = exactly
    value: Round = exactly
    query: Round = exactly


def embeddings(model: TinyModel, tokens: Sequence[int]) -> Float64:
    """What the model starts from, [tokens, n_embd]."""
    return np.asarray(model.tensors["token_embd.weight"][np.asarray(tokens)], dtype=np.float64)


NO_ROUNDING = Rounding()


class ReferenceMemory:
    """The cells of several sequences and the model that reads and writes them."""

    def __init__(self, model: TinyModel, in_force: InForce, rounding: Rounding = NO_ROUNDING) -> None:
        """No cells."""
        self._model = model
        self._in_force = in_force
        self._rounding = rounding
        self._weights = model_weights(model)
        self._positions: Float64 = np.zeros(0)
        self._members: list[set[int]] = []
        empty = np.zeros((0, model.n_head_kv, model.head_dim))
        self._keys = [empty for _ in range(model.n_layer)]
        self._values = [empty for _ in range(model.n_layer)]

    def decode(self, tokens: Sequence[int], start: int = 0, sequence: int = 0) -> Float64:
        """Final hidden states (after the output norm), [tokens, n_embd], of one sequence's next tokens."""
        positions = range(start, start + len(tokens))
        return self.decode_rows(embeddings(self._model, tokens), positions, [sequence] * len(tokens))

    def decode_rows(self, rows: Float64, positions: Sequence[int], sequences: Sequence[int]) -> Float64:
        """The same of rows, [tokens, n_embd], each at a position of a sequence."""
        model, m = self._model, np.asarray(positions, dtype=np.float64)
        self._positions = np.concatenate([self._positions, m])
        self._members += [{sequence} for sequence in sequences]
        mine = np.array([[s in members for members in self._members] for s in sequences])
        mask = np.where(mine & (self._positions[None, :] <= m[:, None]), 0.0, -np.inf)
        hidden = rows
        for layer in range(model.n_layer):
            hidden = self._layer(layer, hidden, mask)
        deviation = np.sqrt(np.mean(hidden * hidden, axis=1, keepdims=True) + model.rms_eps)
        return np.asarray(hidden / deviation * self._weights["output_norm.weight"])

    @property
    def positions(self) -> list[int]:
        """Of the cells, rising."""
        return sorted(int(position) for position in self._positions)

    def logits(self, hidden: Float64) -> Float64:
        """[tokens, vocabulary] of final hidden states."""
        return np.asarray(hidden @ self._weights["output.weight"].T)

    def copy(self, source: int, target: int, begin: float = 0, end: float = np.inf) -> None:
        """`target` also gets the cells of `source` from position `begin` to before `end`."""
        for position, members in zip(self._positions, self._members, strict=True):
            if source in members and begin <= position < end:
                members.add(target)

    def keep(self, sequence: int) -> None:
        """Forget all others."""
        self._forget(lambda position, members: members - {sequence})

    def remove(self, sequence: int, begin: float, end: float = np.inf) -> None:
        """Forget the sequence's positions from `begin` to before `end`."""
        self._forget(lambda position, members: {sequence} if begin <= position < end else set())

    def shift(self, sequence: int, begin: float, by: float) -> None:
        """Move the sequence's positions from `begin` on."""
        for cell, members in enumerate(self._members):
            if sequence in members and self._positions[cell] >= begin:
                self._positions[cell] += by

    def _forget(self, leaves: Callable[[float, set[int]], set[int]]) -> None:
        for position, members in zip(self._positions, self._members, strict=True):
            members.difference_update(leaves(float(position), members))
        kept = [bool(members) for members in self._members]
        self._positions = self._positions[kept]
        self._members = [members for members in self._members if members]
        self._keys = [keys[kept] for keys in self._keys]
        self._values = [values[kept] for values in self._values]

    def _layer(self, layer: int, hidden: Float64, mask: Float64) -> Float64:
        w = layer_weights(self._weights, layer)
        q, k, v = project_heads(self._model, w, hidden)
        self._keys[layer] = np.concatenate([self._keys[layer], k])
        self._values[layer] = np.concatenate([self._values[layer], v])
        own = self._in_force(layer, self._positions[-len(hidden) :])
        q = own.attention_factor * rotate(q, own.angles, self._model.arch == "llama")
        if own.query_factor is not None:
            q = q * own.query_factor[:, None, None]
        keys = self._rounding.key(self.turned_keys(layer))
        values = self._rounding.value(self._values[layer])
        attended = attend(self._rounding.query(q), keys, values, mask)
        return finish_layer(self._model, w, hidden, attended)

    def turned_keys(self, layer: int) -> Float64:
        """Every cell's key at the position that the cell has now, [cells, heads, head_dim], in float64."""
        at = self._in_force(layer, self._positions)
        turned = rotate(self._keys[layer], at.angles, self._model.arch == "llama")
        return np.asarray(at.attention_factor * turned)
