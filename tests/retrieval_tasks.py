"""Tasks of random tokens: a haystack that begins alike for all, a needle in it, a question at the end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ropewalk.evaluation.retrieval import RetrievalTask

QUESTION = tuple(range(40, 48))
NEEDLE_TOKENS = 6


def haystack(length: int, seed: int = 0) -> tuple[int, ...]:
    """Random tokens that any tiny model has, without the special ones."""
    return tuple(int(token) for token in np.random.default_rng(seed).integers(3, 360, length))


def random_tasks(
    lengths: Sequence[int],
    depths: Sequence[float],
    trials: int,
    *,
    answer_tokens: int = 8,
    seed: int = 0,
) -> list[RetrievalTask]:
    """A task for each length, depth and trial; needles begin with a token that no haystack goes on with."""
    hay = haystack(max(lengths), seed)
    rng = np.random.default_rng(seed + 1)
    tasks = []
    for length in lengths:
        for depth in depths:
            for trial in range(trials):
                before = round(depth * (length - NEEDLE_TOKENS - len(QUESTION)))
                after = length - NEEDLE_TOKENS - len(QUESTION) - before
                needle = [int(token) for token in rng.integers(3, 360, NEEDLE_TOKENS)]
                needle[0] = (hay[before] - 3 + 1 + trial) % 350 + 3  # not the haystack's, nor another trial's
                tokens = (*hay[:before], *needle, *hay[before : before + after], *QUESTION)
                tasks.append(
                    RetrievalTask(
                        test="random",
                        length=length,
                        depth=depth,
                        trial=trial,
                        tokens=tokens,
                        shared=before,
                        distance=length - before,
                        expected=("1",),
                        rule="all-words",
                        answer_tokens=answer_tokens,
                    )
                )
    return tasks
