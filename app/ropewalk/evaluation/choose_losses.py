"""Losses of several plans on the same tokens, compared pair by pair, and who is dropped for them.

Tokens differ much more from each other than plans do on the same token, so differences are taken token by
token: a few hundred tokens tell what the two perplexities alone would not.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ropewalk.evaluation.token_blocks import FEWEST_CLUSTERS, student_t_95

BLOCK = 16
"""Neighbouring tokens that count as one sample: what makes one of them hard makes the next ones hard."""

MARGIN = 0.25
"""Nats per token within which plans stay: perplexity a quarter higher says little of what a model finds."""


@dataclass(frozen=True)
class Difference:
    """By how much losses exceed others on the same tokens, in nats per token, with a 95% interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class LossVerdict:
    """What the losses say of one plan.

    Attributes:
        label: the plan.
        perplexity: of the tokens.
        excess: over the best plan's losses; all 0 for the best itself.
        kept: whether it stays.
    """

    label: str
    perplexity: float
    excess: Difference
    kept: bool


def paired_difference(losses: Sequence[float], others: Sequence[float]) -> Difference:
    """The mean of `losses - others`, token by token, by Student's rule over blocks of neighbours.

    With few blocks nothing is sure.

    Args:
        losses: nats of each token under one plan, at least one.
        others: of the same tokens under another.

    Raises:
        ValueError: they are not of the same tokens.
    """
    differences = np.asarray(losses, dtype=np.float64) - np.asarray(others, dtype=np.float64)
    mean = float(np.mean(differences))
    n_blocks = len(differences) // BLOCK
    if n_blocks < FEWEST_CLUSTERS:
        return Difference(mean, -math.inf, math.inf)
    blocks = np.array([np.mean(block) for block in np.array_split(differences, n_blocks)])
    spread = student_t_95(n_blocks - 1) * float(np.std(blocks, ddof=1)) / math.sqrt(n_blocks)
    return Difference(mean, mean - spread, mean + spread)


def perplexity_of(losses: Sequence[float]) -> float:
    """`exp` of the mean loss."""
    return math.exp(float(np.mean(losses)))


def judge_losses(
    losses: Mapping[str, Sequence[float]],
    always: Collection[str] = (),
    forgetful: Collection[str] = (),
    margin: float = MARGIN,
) -> tuple[LossVerdict, ...]:
    """Drop the plans that are surely worse than the best one by more than a margin.

    Args:
        losses: by plan, nats of each of the same tokens.
        always: plans that stay whatever their losses.
        forgetful: plans that nobody is compared with: most tokens are foreseen from those just before them,
            so one that forgets the text may foresee it best.
        margin: nats per token.

    Returns:
        A verdict for each, the best first, forgetful ones last.
    """
    by_mean = sorted(
        losses, key=lambda label: (label in forgetful, float(np.mean(losses[label])), label not in always)
    )
    verdicts = []
    for label in by_mean:
        excess = paired_difference(losses[label], losses[by_mean[0]])
        kept = label in always or label == by_mean[0] or not excess.low > margin
        verdicts.append(LossVerdict(label, perplexity_of(losses[label]), excess, kept))
    return tuple(verdicts)
