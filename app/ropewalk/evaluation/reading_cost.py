"""How long reading takes on this machine, from what was read: so much for each token, and for each pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ReadingCost:
    """Seconds to read n tokens from nothing: `per_token n + per_pair n^2`."""

    per_token: float
    per_pair: float = 0.0

    def seconds(self, tokens: float, held: float = 0.0) -> float:
        """Seconds to read on from `held` tokens to `tokens`."""
        return self.per_token * (tokens - held) + self.per_pair * (tokens * tokens - held * held)


def fit_reading_cost(samples: Sequence[tuple[int, float]]) -> ReadingCost:
    """The cost that fits best.

    Args:
        samples: tokens read from nothing, and seconds that took; at least one, with tokens above 0.
    """
    tokens = np.array([n for n, _ in samples], dtype=np.float64)
    seconds = np.array([s for _, s in samples], dtype=np.float64)
    alone = ReadingCost(float(tokens @ seconds / (tokens @ tokens)))
    if len(set(tokens)) < 2:
        return alone
    (per_token, per_pair), *_ = np.linalg.lstsq(np.stack([tokens, tokens**2], axis=1), seconds, rcond=None)
    # a machine that was busy at first may seem to grow faster: nothing gets cheaper with length
    return ReadingCost(float(per_token), float(per_pair)) if per_token > 0 and per_pair > 0 else alone
