"""The sections of docs/results.md, of those results files that are there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from evidence.tables import Column, made_by, methods_table
from ropewalk.evaluation.results_file import ResultsRecord, read_results

_HEADS = {"passkey": "passkey at", "perplexity": "perplexity at"}


def columns_of(record: ResultsRecord) -> list[Column]:
    """A column for each length of a file."""
    lengths = sorted({int(row["length"]) for row in record.results})
    return [Column(f"{_HEADS[record.test]} {length:,}", record, length) for length in lengths]


def sections(folder: Path, groups: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[str, str]]:
    """Name and Markdown of each section of which there is a result.

    Args:
        folder: of the results files.
        groups: by section, the names of its files.

    Raises:
        ResultsFileError: a file is damaged.
    """
    for name, members in groups.items():
        files = [folder / f"{member}.json" for member in members]
        records = [read_results(file) for file in files if file.exists()]
        columns = [column for record in records for column in columns_of(record)]
        if columns:
            commands = "\n\n".join(dict.fromkeys(made_by(record) for record in records))
            yield name, f"{methods_table(columns)}\n\n{commands}"
