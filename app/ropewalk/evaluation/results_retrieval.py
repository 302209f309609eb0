"""Results of retrieval tests as the objects of a results file, and back."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from ropewalk.evaluation.results_file import ResultsFileError, ResultsRecord, shown
from ropewalk.evaluation.retrieval import RetrievalResult

_KINDS: Mapping[str, tuple[type, ...]] = {
    "method": (str,),
    "test": (str,),
    "length": (int,),
    "depth": (float, int),
    "trial": (int,),
    "expected": (list, tuple),
    "answer": (str,),
    "hit": (bool,),
    "prompt_tokens": (int,),
    "distance": (int,),
    "computed_tokens": (int,),
    "seconds": (float, int),
}


def as_row(result: RetrievalResult) -> dict[str, Any]:
    """A result as JSON values."""
    return dataclasses.asdict(result) | {"expected": list(result.expected)}


def retrieval_results(record: ResultsRecord) -> tuple[RetrievalResult, ...]:
    """The results of a record.

    Raises:
        ResultsFileError: one of them is damaged; the record was read from a file that somebody changed.
    """
    return tuple(_result(row, i) for i, row in enumerate(record.results, start=1))


def _result(row: Mapping[str, Any], number: int) -> RetrievalResult:
    for name, kinds in _KINDS.items():
        value = row.get(name)
        fits = isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
        if not fits or (name == "expected" and not all(isinstance(part, str) for part in _parts(value))):
            raise ResultsFileError(
                f"The results file is damaged: result {number} has {name} {shown(value)}; "
                "begin a new one with --json."
            )
    values = {name: row[name] for name in _KINDS}
    return RetrievalResult(**values | {"depth": float(row["depth"]), "expected": tuple(row["expected"])})


def _parts(value: object) -> Sequence[Any]:
    return typing.cast(Sequence[Any], value)
