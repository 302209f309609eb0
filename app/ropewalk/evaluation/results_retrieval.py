"""Results of retrieval tests as the objects of a results file, and back."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ropewalk.evaluation.results_file import ResultsFileError, ResultsRecord, shown
from ropewalk.evaluation.retrieval import RetrievalResult, RetrievalTask

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


def check_asked(
    results: Sequence[RetrievalResult], tasks: Iterable[RetrievalTask], methods: Iterable[str], *, name: str
) -> None:
    """See that results are of tasks that are asked now, each once: the same prompts with the same answers.

    Args:
        results: of an earlier run.
        tasks: of this one.
        methods: the labels of its plans.
        name: what to call the earlier results.

    Raises:
        ResultsFileError: one is of another prompt, as of a version that made others, or is there twice.
    """
    methods = list(methods)
    asked = {(method, *_cell(task)): task for task in tasks for method in methods}
    for number, result in enumerate(results, start=1):
        task = asked.pop((result.method, *_cell(result)), None)
        if task is None or (task.expected, len(task.tokens)) != (result.expected, result.prompt_tokens):
            raise ResultsFileError(
                f"{name} cannot be gone on from: result {number} is of no prompt that is asked here, or is "
                "there twice; begin a new one with --json."
            )


def _cell(of: RetrievalTask | RetrievalResult) -> tuple[int, float, int]:
    return of.length, of.depth, of.trial


def _result(row: Mapping[str, Any], number: int) -> RetrievalResult:
    for name, kinds in _KINDS.items():
        value = row.get(name)
        fits = isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
        fits = fits and not (isinstance(value, float) and not math.isfinite(value))
        if not fits or (name == "expected" and not all(isinstance(part, str) for part in _parts(value))):
            raise ResultsFileError(
                f"The results file is damaged: result {number} has {name} {shown(value)}; "
                "begin a new one with --json."
            )
    values = {name: row[name] for name in _KINDS}
    return RetrievalResult(**values | {"depth": float(row["depth"]), "expected": tuple(row["expected"])})


def _parts(value: object) -> Sequence[Any]:
    return typing.cast(Sequence[Any], value)
