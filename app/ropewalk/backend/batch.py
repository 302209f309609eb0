"""A `llama_batch`, made once and filled again."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as capi


class Batch:
    """Tokens of one sequence at positions that follow each other, as the library takes them.

    Attributes:
        native: the `llama_batch`; it points into arrays of this object.
    """

    def __init__(self, capacity: int) -> None:
        """An empty batch.

        Args:
            capacity: most tokens.
        """
        self._sequence = ctypes.c_int32(0)
        self._tokens = np.zeros(capacity, dtype=np.int32)
        self._positions = np.zeros(capacity, dtype=np.int32)
        self._wants_logits = np.zeros(capacity, dtype=np.int8)
        self._counts = np.ones(capacity, dtype=np.int32)
        # every token points to the one sequence
        self._sequences = np.full(capacity, ctypes.addressof(self._sequence), dtype=np.uintp)
        self.native: Any = capi.llama_batch()
        for name, values in (
            ("token", self._tokens),
            ("pos", self._positions),
            ("n_seq_id", self._counts),
            ("seq_id", self._sequences),
            ("logits", self._wants_logits),
        ):
            kind = dict(capi.llama_batch._fields_)[name]
            setattr(self.native, name, ctypes.cast(values.ctypes.data, kind))

    def fill(self, tokens: Sequence[int], start: int, *, sequence: int, all_logits: bool) -> None:
        """Puts tokens in place of those before.

        Args:
            tokens: at least one, at most the capacity.
            start: position of the first.
            sequence: that they belong to.
            all_logits: logits of each are wanted, not only of the last.
        """
        count = len(tokens)
        self.native.n_tokens = count
        self._sequence.value = sequence
        self._tokens[:count] = tokens
        self._positions[:count] = np.arange(start, start + count)
        self._wants_logits[:count] = all_logits
        self._wants_logits[count - 1] = True
