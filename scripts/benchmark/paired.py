"""Two readings of the same text, compared token by token."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BLOCK = 64
"""Neighbouring tokens that an interval takes as one: what disturbs one of them disturbs the next one too."""

_TWO_SIDED_95 = 1.96  # of the normal distribution


@dataclass(frozen=True)
class Reading:
    """What came of each token of a text.

    Attributes:
        losses: nats, [windows, tokens]: negative log-likelihoods.
        tops: the most probable token at each place, [windows, tokens].
    """

    losses: npt.NDArray[np.float64]
    tops: npt.NDArray[np.int64]

    @property
    def perplexity(self) -> float:
        """Exp of the mean negative log-likelihood."""
        return float(np.exp(self.losses.mean()))

    def second_half(self, window: int) -> Reading:
        """The tokens after each window's middle: those at the places `window / 2 + 1` and on, from 0.

        As `llama-perplexity` has it: the token in the middle is the first that others are foreseen from.

        Args:
            window: tokens of a window; this has one less, for nothing comes before the first.
        """
        return Reading(self.losses[:, window // 2 :], self.tops[:, window // 2 :])


@dataclass(frozen=True)
class Difference:
    """How one reading differs from another.

    Attributes:
        mean: nats a token by which the log-likelihood is higher (better) than the other's.
        half_width: of the 95% interval around it.
        same_top: share of places where both have the same most probable token.
    """

    mean: float
    half_width: float
    same_top: float

    @property
    def text(self) -> str:
        """`-0.00120 ± 0.00034`, as tables have it."""
        return f"{self.mean:+.5f} ± {self.half_width:.5f}"


def difference(reading: Reading, other: Reading) -> Difference:
    """How a reading differs from another one of the same text.

    The interval is that of a mean of independent values, which are taken to be the means of blocks of about
    `BLOCK` neighbouring tokens of a window; of a short window, its two halves.

    Args:
        reading: of at least two tokens a window.
        other: the one that it is compared with.
    """
    gains = other.losses - reading.losses
    blocks = [
        block.mean()
        for window in gains
        for block in np.array_split(window, max(2, round(window.size / BLOCK)))
    ]
    half_width = _TWO_SIDED_95 * float(np.std(blocks, ddof=1)) / len(blocks) ** 0.5
    return Difference(float(gains.mean()), half_width, float((reading.tops == other.tops).mean()))
