"""What was measured of several plans, side by side: what each finds, foresees, and costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ropewalk.evaluation.perplexity_record import MethodAtLength, by_method_and_length
from ropewalk.evaluation.results_file import ResultsRecord
from ropewalk.evaluation.results_retrieval import retrieval_results
from ropewalk.evaluation.retrieval import RetrievalResult
from ropewalk.evaluation.statistics import Accuracy

MEMORY, PASSKEY, PERPLEXITY = "memory", "passkey", "perplexity"
"""What a result is of."""


@dataclass(frozen=True)
class Speed:
    """Prompt tokens per second while passkeys were asked for, the answers' few tokens included.

    Attributes:
        mean: of all tokens and all of the time.
        low: of the slowest cell.
        high: of the fastest.
    """

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Compared:
    """All that was measured of one plan.

    Attributes:
        method: its label.
        found: passkeys, of all lengths together.
        by_length: the same of each length.
        perplexities: by length.
        cache_bytes: keys and values, as the library has laid them out for the longest text; None where that
            was not measured.
        speed: None where no passkey was asked for.
    """

    method: str
    found: Accuracy
    by_length: Mapping[int, Accuracy]
    perplexities: Mapping[int, MethodAtLength]
    cache_bytes: int | None
    speed: Speed | None

    def as_json(self) -> dict[str, Any]:
        """For the results file's summary."""
        return {
            "method": self.method,
            **self.found.as_json(),
            "by_length": [{"length": length, **found.as_json()} for length, found in self.by_length.items()],
            "perplexity": [row.as_json() for row in self.perplexities.values()],
            "cache_bytes": self.cache_bytes,
            "tokens_per_second": None
            if self.speed is None
            else {"mean": self.speed.mean, "slowest": self.speed.low, "fastest": self.speed.high},
        }


def compared(record: ResultsRecord) -> tuple[Compared, ...]:
    """The plans of a record of which anything was measured: most passkeys first, then the best perplexity."""
    answers = passkey_answers(record)
    perplexities = by_method_and_length(of_kind(record, PERPLEXITY))
    memory = {row["method"]: int(row["cache_bytes"]) for row in of_kind(record, MEMORY).results}
    found = []
    for plan in record.plans:
        own = [answer for answer in answers if answer.method == plan.label]
        rows = {row.length: row for row in perplexities if row.method == plan.label}
        if own or rows or plan.label in memory:
            lengths = sorted({answer.length for answer in own})
            found.append(
                Compared(
                    method=plan.label,
                    found=_accuracy(own),
                    by_length={n: _accuracy([a for a in own if a.length == n]) for n in lengths},
                    perplexities=rows,
                    cache_bytes=memory.get(plan.label),
                    speed=_speed(own),
                )
            )
    return tuple(sorted(found, key=_rank))


def of_kind(record: ResultsRecord, kind: str) -> ResultsRecord:
    """A record with the results of one kind alone."""
    return replace(record, results=tuple(row for row in record.results if row["kind"] == kind))


def passkey_answers(record: ResultsRecord) -> tuple[RetrievalResult, ...]:
    """Every answer to a passkey."""
    return retrieval_results(of_kind(record, PASSKEY))


def _accuracy(answers: Sequence[RetrievalResult]) -> Accuracy:
    return Accuracy(sum(answer.hit for answer in answers), len(answers))


def _speed(answers: Sequence[RetrievalResult]) -> Speed | None:
    read = [answer for answer in answers if answer.computed_tokens and answer.seconds > 0]
    if not read:
        return None
    rates = [answer.computed_tokens / answer.seconds for answer in read]
    mean = sum(answer.computed_tokens for answer in read) / sum(answer.seconds for answer in read)
    return Speed(mean, min(rates), max(rates))


def _rank(row: Compared) -> tuple[float, float]:
    share = row.found.share if row.found.trials else -1.0
    longest = row.perplexities[max(row.perplexities)].perplexity if row.perplexities else math.inf
    return -share, longest
