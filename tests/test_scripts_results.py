"""The script behind docs/results.md: its commands, its tables, and that the page says what the files hold."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import results
from benchmark.page import Section, write_section
from evidence.page import columns_of, sections
from evidence.runs import RUNS, Run
from evidence.tables import made_by, methods_table
from ropewalk.cli.methods_list import parse_methods
from ropewalk.cli.verbs import ropewalk
from ropewalk.evaluation.results_file import ModelIdentity, RecordedPlan, ResultsRecord, write_results
from ropewalk_plan.compose import parse_method


def passkeys(hits: dict[str, list[bool]]) -> ResultsRecord:
    rows = [
        {"method": method, "length": 900, "hit": hit} for method, answers in hits.items() for hit in answers
    ]
    return ResultsRecord(
        test="passkey",
        command=("ropewalk", "passkey", "m.gguf"),
        model=ModelIdentity("m.gguf", "f"),
        settings={},
        plans=tuple(RecordedPlan(method, None) for method in hits),
        results=tuple(rows),
        complete=True,
        date="2026-01-02T03:04:05+00:00",
    )


def perplexities(values: dict[str, float]) -> ResultsRecord:
    rows = [{"method": method, "length": 900, "perplexity": value} for method, value in values.items()]
    return replace(passkeys({}), test="perplexity", results=tuple(rows))


def test_the_best_come_first_by_hits_and_then_by_perplexity() -> None:
    keys = passkeys({"a": [True, False], "b": [False, False], "c": [True, True], "d": [True, False], "e": []})
    texts = perplexities({"a": 9.0, "b": 5.0, "c": 8.0, "d": 7.0})
    lines = methods_table([*columns_of(keys), *columns_of(texts)]).splitlines()
    assert lines[0] == "|  | passkey at 900 | perplexity at 900 |"
    assert [line.split("`")[1] for line in lines[2:]] == ["c", "d", "a", "b"]
    assert lines[2] == "| `c` | 2/2, 100% (34% to 100%) | 8.00 |"


def test_what_was_not_measured_is_a_dash_and_an_unfinished_run_says_so() -> None:
    keys, texts = passkeys({"a": [True], "b": [False]}), perplexities({"a": 9.0})
    table = methods_table([*columns_of(keys), *columns_of(texts)])
    assert table.splitlines()[-1].endswith("| - |")
    assert "not finished" not in made_by(keys)
    assert "not finished" in made_by(replace(keys, complete=False))


def test_files_that_are_not_there_yet_are_no_section(tmp_path: Path) -> None:
    groups = {"methods": ("one", "two"), "others": ("three",)}
    assert list(sections(tmp_path, groups)) == []
    write_results(tmp_path / "two.json", passkeys({"a": [True]}))
    assert [name for name, _ in sections(tmp_path, groups)] == ["methods"]


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_the_commands_are_of_verbs_options_and_methods_that_exist(run: Run, tmp_path: Path) -> None:
    model, text = tmp_path / "m.gguf", tmp_path / "persuasion.txt"
    model.touch()
    text.touch()
    with ropewalk.make_context("ropewalk", []) as context:
        verb = ropewalk.get_command(context, run.verb)
        assert verb is not None
        arguments = [str(text) if word == text.name else word for word in run.arguments]
        with verb.make_context(run.verb, [str(model), *arguments], parent=context) as parsed:
            listed = parse_methods(parsed.params["methods"])
    assert len(listed) == 15
    for method, _ in listed:
        assert parse_method(method)


def test_the_page_says_what_the_files_hold(tmp_path: Path) -> None:
    page = tmp_path / results.PAGE.name
    shutil.copy(results.PAGE, page)
    made = list(sections(results.FOLDER, results._SECTIONS))
    assert made
    for name, text in made:
        write_section(page, Section(name, "scripts/results.py --page", text))
    assert page.read_text() == results.PAGE.read_text()
