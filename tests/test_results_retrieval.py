"""Retrieval results in a results file."""

from __future__ import annotations

from pathlib import Path

import pytest

from results_records import record
from retrieval_rows import cells, result
from ropewalk.evaluation.results_file import ResultsFileError, read_results, write_results
from ropewalk.evaluation.results_retrieval import as_row, retrieval_results


def test_results_come_back_as_they_were(tmp_path: Path) -> None:
    rows = cells({4000: {0.1: "1/2", 1.0: "2/2"}}, ["none", "yarn"])
    write_results(tmp_path / "r.json", record(results=tuple(as_row(row) for row in rows)))
    assert retrieval_results(read_results(tmp_path / "r.json")) == rows


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("method", 3),
        ("length", "4000"),
        ("length", True),
        ("depth", None),
        ("expected", "12345"),
        ("expected", [1]),
        ("hit", 1),
        ("answer", ["x"]),
        ("seconds", "\n"),
    ],
)
def test_a_damaged_row_is_a_sentence(field: str, value: object) -> None:
    with pytest.raises(ResultsFileError, match=rf"result 2 has {field} .*begin a new one") as caught:
        retrieval_results(record(results=(as_row(result()), as_row(result()) | {field: value})))
    assert "\n" not in str(caught.value)
