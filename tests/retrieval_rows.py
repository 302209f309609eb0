"""Results of a retrieval test that was never run, for tests of what shows them."""

from __future__ import annotations

from collections.abc import Iterable

from ropewalk.evaluation.retrieval import RetrievalResult


def result(
    *,
    method: str = "none",
    length: int = 4000,
    depth: float = 0.5,
    trial: int = 0,
    hit: bool = True,
    distance: int | None = None,
    answer: str | None = None,
) -> RetrievalResult:
    """One result; the distance follows from length and depth unless it is given."""
    return RetrievalResult(
        method=method,
        test="passkey",
        length=length,
        depth=depth,
        trial=trial,
        expected=("12345",),
        answer=answer if answer is not None else (" 12345." if hit else " 99999."),
        hit=hit,
        prompt_tokens=length - 7,
        distance=distance if distance is not None else round((1 - depth) * length) - 20,
        computed_tokens=length // 3,
        seconds=1.25,
    )


def cells(
    grid: dict[int, dict[float, str]], methods: Iterable[str] = ("none",)
) -> tuple[RetrievalResult, ...]:
    """Results from hits written as `2/3`, by length and depth."""
    rows = []
    for method in methods:
        for length, row in grid.items():
            for depth, counts in row.items():
                hits, trials = (int(part) for part in counts.split("/"))
                rows += [
                    result(method=method, length=length, depth=depth, trial=trial, hit=trial < hits)
                    for trial in range(trials)
                ]
    return tuple(rows)
