"""Tables of docs/results.md, made of results files."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmark.page import table
from ropewalk.evaluation.provenance import machine_words
from ropewalk.evaluation.results_file import ResultsRecord
from ropewalk.evaluation.statistics import Accuracy

Row = Mapping[str, Any]
_MISSING = "-"


@dataclass(frozen=True)
class Column:
    """What one results file says at one length.

    Attributes:
        head: above the column.
        record: the file.
        length: tokens asked for.
    """

    head: str
    record: ResultsRecord
    length: int

    def rows(self, method: str) -> list[Row]:
        """Its results under one method."""
        found = self.record.results
        return [row for row in found if (row["method"], row["length"]) == (method, self.length)]

    def hits(self, method: str) -> Accuracy:
        """Hits among its trials, of a retrieval test."""
        hits = [bool(row["hit"]) for row in self.rows(method)]
        return Accuracy(sum(hits), len(hits))

    def cell(self, method: str) -> str:
        """What the table says."""
        rows = self.rows(method)
        if not rows:
            return _MISSING
        if self.record.test == "perplexity":
            return f"{rows[0]['perplexity']:.2f}"
        return self.hits(method).words


def methods_table(columns: Sequence[Column]) -> str:
    """A line a method, the best first: by hits, then by the last perplexity; without results, none."""
    retrieval = [column for column in columns if column.record.test != "perplexity"]
    texts = [column for column in columns if column.record.test == "perplexity"]

    def order(method: str) -> tuple[int, float]:
        perplexities = [row["perplexity"] for column in texts for row in column.rows(method)]
        hits = sum(column.hits(method).hits for column in retrieval)
        return -hits, float(perplexities[-1]) if perplexities else float("inf")

    methods = dict.fromkeys(plan.label for column in columns for plan in column.record.plans)
    measured = [method for method in methods if any(column.rows(method) for column in columns)]
    lines = [
        [f"`{method}`", *(column.cell(method) for column in columns)]
        for method in sorted(measured, key=order)
    ]
    return table(["", *(column.head for column in columns)], lines)


def made_by(record: ResultsRecord) -> str:
    """The commands, dates and machines of a file's runs, and whether it is finished, as Markdown."""
    told: dict[str, None] = {}
    for run in (*record.earlier, record.provenance):
        command = shlex.join(run["command"])
        told[f"    {command}\n\n({run['date'][:10]}; {machine_words(run['machine'])})"] = None
    parts = list(told)
    if not record.complete:
        parts.append("This run is not finished: what it has not measured is a dash.")
    return "\n\n".join(parts)
