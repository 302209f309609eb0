"""How sure a mean over the tokens of a text is, where neighbouring tokens are not independent.

A text is easy for a while and hard for a while, so its tokens' losses are correlated, and an interval from
the variance of single tokens is too narrow. Here the tokens are cut into clusters, runs of neighbours that
are long against that correlation, and the clusters' means are taken as the independent observations: batch
means, with the ratio estimator of cluster sampling (Cochran 1977, chapter 9) and Student's t.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

RUN_TOKENS = 64
"""Tokens whose losses are kept as one sum."""

MOST_CLUSTERS = 32
FEWEST_CLUSTERS = 5
"""With fewer, an interval would say little: none is given."""

ENOUGH_WINDOWS = 8
"""Windows from which on each is a cluster by itself, whatever is correlated within it."""

_Z = 1.959964


@dataclass(frozen=True)
class MeanLoss:
    """The mean loss of tokens in nats, with its 95% interval.

    Attributes:
        mean: in nats.
        half_width: the interval is `mean` plus and minus this; None where there are too few tokens for one.
        n_clusters: independent observations that it is from.
    """

    mean: float
    half_width: float | None
    n_clusters: int


def run_sums(losses: Sequence[float]) -> tuple[float, ...]:
    """Sums of the losses of each `RUN_TOKENS` neighbours; what is left over belongs to the last run."""
    n_runs = max(1, len(losses) // RUN_TOKENS)
    return tuple(
        math.fsum(losses[i * RUN_TOKENS : None if i == n_runs - 1 else (i + 1) * RUN_TOKENS])
        for i in range(n_runs)
    )


def run_sizes(n_tokens: int) -> tuple[int, ...]:
    """Tokens of each run of `run_sums`."""
    n_runs = max(1, n_tokens // RUN_TOKENS)
    return (*(RUN_TOKENS,) * (n_runs - 1), n_tokens - RUN_TOKENS * (n_runs - 1))


def mean_loss(windows: Sequence[tuple[int, Sequence[float]]]) -> MeanLoss:
    """The mean loss per token over windows of a text.

    Args:
        windows: of each its number of scored tokens and its `run_sums`; at least one. For the difference of
            two methods on the same tokens, the differences of their sums.
    """
    clusters = _clusters(windows)
    sizes, sums = [size for size, _ in clusters], [total for _, total in clusters]
    n_tokens, n = sum(sizes), len(clusters)
    mean = math.fsum(sums) / n_tokens
    if n < FEWEST_CLUSTERS or not math.isfinite(mean):
        return MeanLoss(mean, None, n)
    residuals = math.fsum((total - mean * size) ** 2 for size, total in clusters)
    error = math.sqrt(n / (n - 1) * residuals) / n_tokens
    return MeanLoss(mean, student_t_95(n - 1) * error, n)


def _clusters(windows: Sequence[tuple[int, Sequence[float]]]) -> list[tuple[int, float]]:
    """Tokens and summed loss of each cluster; none is in two windows."""
    if len(windows) >= ENOUGH_WINDOWS:
        return [(size, math.fsum(sums)) for size, sums in windows]
    most = max(1, MOST_CLUSTERS // len(windows))
    clusters = []
    for size, sums in windows:
        sizes, n = run_sizes(size), min(most, len(sums))
        edges = [round(i * len(sums) / n) for i in range(n + 1)]
        for start, end in itertools.pairwise(edges):
            clusters.append((sum(sizes[start:end]), math.fsum(sums[start:end])))
    return clusters


def student_t_95(freedom: int) -> float:
    """The two-sided 95% quantile of Student's t, within 0.001 from four degrees of freedom on.

    By the expansion about the normal quantile (Abramowitz and Stegun, 26.7.5).
    """
    z, v = _Z, float(freedom)
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * v**4)
    )
