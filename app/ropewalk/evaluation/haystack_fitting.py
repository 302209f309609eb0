"""How much fits into so many tokens, found by few counts: counting means tokenizing a long text."""

from __future__ import annotations

from collections.abc import Callable

_STRAIGHT = 12
"""Counts after which a line is no longer trusted and the rest is halved instead."""


def longest_fit(measure: Callable[[int], int], limit: int, most: int, guess: int) -> int | None:
    """The largest n from 0 to `most` with `measure(n) <= limit`.

    Tokenizers merge over edges, so a count may fall where n rises; what comes back then fits, and one more
    does not.

    Args:
        measure: the tokens of n units; what was asked once is not asked again.
        limit: tokens, at most.
        most: units that there are.
        guess: where to look first.

    Returns:
        None where not even 0 fits.
    """
    counts: dict[int, int] = {}

    def count(n: int) -> int:
        if n not in counts:
            counts[n] = measure(n)
        return counts[n]

    if count(0) > limit:
        return None
    low, high = 0, most + 1  # `low` fits; `high` does not, or there is no such number
    at = min(max(guess, 1), most)
    while high - low > 1:
        if count(at) <= limit:
            low = at
        else:
            high = at
        at = low + _next_step(count, low, high, most, limit) if len(counts) < _STRAIGHT else (low + high) // 2
        at = min(max(at, low + 1), high - 1)
    return low


def _next_step(count: Callable[[int], int], low: int, high: int, most: int, limit: int) -> int:
    """How far beyond `low` the limit lies, on a straight line through what was counted."""
    begin, end = (low, high) if high <= most else (0, low)
    if end <= begin:
        return 1
    per_unit = (count(end) - count(begin)) / (end - begin)
    return int((limit - count(low)) / max(per_unit, 1 / (limit + 1)))
