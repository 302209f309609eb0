"""Log-probabilities of given tokens, out of rows of logits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_ROWS_AT_ONCE = 4
"""Rows widened to float64 at once: five megabytes with 150,000 tokens to choose from."""


def log_probabilities(logits: npt.NDArray[np.float32], tokens: Sequence[int]) -> npt.NDArray[np.float64]:
    """The natural logarithm of each token's probability: a log-softmax in float64.

    Args:
        logits: [rows, vocabulary].
        tokens: one for each row.

    Returns:
        [rows].
    """
    chosen = np.asarray(tokens, dtype=np.int64)
    result = np.empty(len(chosen), dtype=np.float64)
    for at in range(0, len(chosen), _ROWS_AT_ONCE):
        rows = logits[at : at + _ROWS_AT_ONCE].astype(np.float64)
        rows -= rows.max(axis=1, keepdims=True)
        picked = np.take_along_axis(rows, chosen[at : at + _ROWS_AT_ONCE, None], axis=1)[:, 0]
        result[at : at + _ROWS_AT_ONCE] = picked - np.log(np.exp(rows, out=rows).sum(axis=1))
    return result
