"""Perplexities in a results file: a row for each window, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ropewalk.evaluation.perplexity import PerplexityResult, exponential, interval_of
from ropewalk.evaluation.perplexity_windows import Stretch
from ropewalk.evaluation.results_file import ResultsRecord
from ropewalk.evaluation.token_blocks import mean_loss

Row = Mapping[str, Any]
Interval = tuple[float, float]


@dataclass(frozen=True)
class MethodAtLength:
    """What all windows together say of a method at a length.

    Attributes:
        method: its label.
        length: tokens of the window.
        n_windows: windows that were measured.
        n_scored: tokens that count.
        perplexity: of these.
        interval: its 95% interval; None where there are too few tokens for one.
        ratio: this perplexity by that of the first method, on the windows that both have; None for the first
            method, and where they have none in common.
        ratio_interval: the ratio's 95% interval, from differences on the same tokens.
        seconds: that computing took.
    """

    method: str
    length: int
    n_windows: int
    n_scored: int
    perplexity: float
    interval: Interval | None
    ratio: float | None
    ratio_interval: Interval | None
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """For the results file's summary."""
        low, high = self.interval or (None, None)
        ratio_low, ratio_high = self.ratio_interval or (None, None)
        return {
            "method": self.method,
            "length": self.length,
            "windows": self.n_windows,
            "n_scored": self.n_scored,
            "perplexity": self.perplexity,
            "low": low,
            "high": high,
            "ratio": self.ratio,
            "ratio_low": ratio_low,
            "ratio_high": ratio_high,
            "seconds": self.seconds,
        }


def row_of(result: PerplexityResult, stretch: Stretch) -> dict[str, Any]:
    """A window's row."""
    low, high = result.interval or (None, None)
    return {
        "method": result.method,
        "mode": result.mode,
        "length": result.length,
        "stride": result.stride,
        "window": stretch.index,
        "start": stretch.start,
        "n_scored": result.n_scored,
        "nll": result.nll,
        "perplexity": result.perplexity,
        "low": low,
        "high": high,
        "run_nll": list(result.run_nll),
        "seconds": result.seconds,
    }


def measured(rows: Sequence[Row]) -> set[tuple[str, int, int]]:
    """Method, length and window of each row."""
    return {(row["method"], row["length"], row["window"]) for row in rows}


def by_method_and_length(record: ResultsRecord) -> tuple[MethodAtLength, ...]:
    """The measurements of each length and method, in the order of lengths, then of the plans."""
    labels = [plan.label for plan in record.plans]
    rows: dict[tuple[int, str], dict[int, Row]] = {}
    for row in record.results:
        rows.setdefault((row["length"], row["method"]), {})[row["window"]] = row
    return tuple(
        _summed(length, label, rows[length, label], rows.get((length, labels[0]), {}), label == labels[0])
        for length in sorted({length for length, _ in rows})
        for label in labels
        if (length, label) in rows
    )


def _summed(
    length: int, label: str, rows: Mapping[int, Row], base: Mapping[int, Row], is_base: bool
) -> MethodAtLength:
    windows = [rows[index] for index in sorted(rows)]
    loss = mean_loss([(row["n_scored"], row["run_nll"]) for row in windows])
    common = [] if is_base else [(rows[index], base[index]) for index in sorted(set(rows) & set(base))]
    apart = mean_loss([_differences(row, other) for row, other in common]) if common else None
    return MethodAtLength(
        method=label,
        length=length,
        n_windows=len(windows),
        n_scored=sum(row["n_scored"] for row in windows),
        perplexity=exponential(loss.mean),
        interval=interval_of(loss),
        ratio=None if apart is None else exponential(apart.mean),
        ratio_interval=None if apart is None else interval_of(apart),
        seconds=sum(row["seconds"] for row in windows),
    )


def _differences(row: Row, other: Row) -> tuple[int, list[float]]:
    pairs = zip(row["run_nll"], other["run_nll"], strict=True)
    return row["n_scored"], [mine - theirs for mine, theirs in pairs]
