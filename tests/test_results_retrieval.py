"""Retrieval results in a results file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from results_records import record
from retrieval_rows import cells, result
from retrieval_tasks import random_tasks
from ropewalk.evaluation.results_file import ResultsFileError, read_results, write_results
from ropewalk.evaluation.results_retrieval import as_row, check_asked, retrieval_results


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
        ("seconds", float("nan")),
        ("depth", float("inf")),
    ],
)
def test_a_damaged_row_is_a_sentence(field: str, value: object) -> None:
    with pytest.raises(ResultsFileError, match=rf"result 2 has {field} .*begin a new one") as caught:
        retrieval_results(record(results=(as_row(result()), as_row(result()) | {field: value})))
    assert "\n" not in str(caught.value)


def test_results_are_gone_on_from_only_where_their_prompts_are_asked_again() -> None:
    tasks = random_tasks([40, 60], [0.0, 0.5], 2)
    rows = [
        replace(
            result(method=method, length=task.length, depth=task.depth, trial=task.trial),
            expected=task.expected,
            prompt_tokens=len(task.tokens),
        )
        for method in ("none", "yarn")
        for task in tasks
    ]
    check_asked(rows, tasks, ["none", "yarn"], name="r.json")
    check_asked(rows[3:9], iter(tasks), ("yarn", "none"), name="r.json")
    second = rows[1]
    for wrong in (
        replace(second, method="pi"),
        replace(second, length=50),
        replace(second, depth=0.25),
        replace(second, trial=2),
        replace(second, expected=("2",)),
        replace(second, prompt_tokens=59),
    ):
        with pytest.raises(ResultsFileError, match=r"^r\.json .* result 2 is of no prompt"):
            check_asked([rows[0], wrong], tasks, ["none", "yarn"], name="r.json")
    with pytest.raises(ResultsFileError, match=r"result 3 .* there twice"):
        check_asked([*rows[:2], rows[0]], tasks, ["none", "yarn"], name="r.json")
