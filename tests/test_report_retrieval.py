"""What retrieval tests put out: in the terminal, in the results file, as a picture, as a page."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from lxml import html

from results_records import record
from retrieval_rows import cells, result
from ropewalk.evaluation.labelled_plan import LabelledPlan
from ropewalk.evaluation.report_retrieval import MISSES_SHOWN, PASSKEY, retrieval_report
from ropewalk.evaluation.results_file import ResultsRecord
from ropewalk.evaluation.results_plans import recorded_plans
from ropewalk.evaluation.results_retrieval import as_row
from ropewalk.evaluation.statistics import wilson
from ropewalk_plan import ContextPlan, ScheduleStep

REPORT = retrieval_report(PASSKEY)
GRID = {4000: {0.1: "3/3", 0.5: "3/3"}, 12000: {0.1: "0/3", 0.5: "1/3"}}


@pytest.fixture
def measured() -> ResultsRecord:
    rows = (*cells(GRID, ["none"]), *cells({4000: {0.1: "3/3"}, 12000: {0.1: "3/3"}}, ["dprope"]))
    return record(results=tuple(as_row(row) for row in rows), complete=True)


def test_the_terminal_shows_maps_windows_and_misses(measured: ResultsRecord) -> None:
    text = REPORT.text(measured, False, True)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["none", "7/12,", "58%", "(32%", "to", "81%)"]
    assert "12,000  · 0/3  ░ 1/3  1/6 17% (3-56%)" in lines
    joined = " ".join(text.split())
    assert (
        "Greedy decoding, exact match; 95% Wilson intervals; prompts of 3,993 to 11,993 tokens as run."
        in joined
    )
    low, high = wilson(1, 3).low, wilson(1, 3).high
    assert (
        f"none: 5,980 tokens back in prompts of 12,000: 1/3, 33% ({low:.0%} to {high:.0%}); fails at 10,780 "
        in joined
    )
    assert "dprope: at least 10,780 tokens back in prompts of 12,000: 3/3" in joined
    assert len(re.findall(r"^none +12,000 +0\.[15] +[123] +11,993 +miss +12345 +99999\.$", text, re.M)) == 5
    assert "Incomplete" not in text and "\x1b" not in text


def test_colour_and_ascii_are_asked_for(measured: ResultsRecord) -> None:
    coloured = REPORT.text(measured, True, True)
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[\d+m", "", coloured) == REPORT.text(measured, False, True)
    row = as_row(result(hit=False, answer=" naïve – “ж” \x1b[2J\x07 " + "long " * 100))
    plain = REPORT.text(replace(measured, results=(*measured.results, row)), False, False)
    assert plain.isascii() and "\x1b" not in plain and "\x07" not in plain
    assert max(map(len, plain.splitlines())) <= 80


def test_what_is_not_complete_says_so(measured: ResultsRecord) -> None:
    half = replace(measured, complete=False)
    assert REPORT.text(half, False, True).startswith("Incomplete: the run was stopped after 18 results")
    page = html.document_fromstring(REPORT.page(half))
    (warning,) = page.xpath("//p[@class='warning']/text()")
    assert "stopped after 18 results" in warning
    assert b"stopped after 18 results" in REPORT.picture(half, "svg")
    assert not html.document_fromstring(REPORT.page(measured)).xpath("//p[@class='warning']")


def test_methods_to_come_have_their_place(measured: ResultsRecord) -> None:
    only = tuple(row for row in measured.results if row["method"] == "none")
    text = REPORT.text(replace(measured, results=only), False, True)
    assert re.search(r"^dprope +none tried$", text, re.M)
    assert REPORT.summary(replace(measured, results=only))[1] == {
        **{"method": "dprope", "hits": 0, "trials": 0, "share": None, "low": 0.0, "high": 1.0},
        **{
            "by_length": [
                {"length": n, "hits": 0, "trials": 0, "share": None, "low": 0.0, "high": 1.0}
                for n in (4000, 12000)
            ],
            "effective_window": None,
        },
    }


def test_many_misses_are_counted_and_the_first_shown(measured: ResultsRecord) -> None:
    rows = tuple(as_row(row) for row in cells({4000: {0.5: "0/40"}}))
    text = REPORT.text(replace(measured, results=rows), False, True)
    assert f"Misses (the first {MISSES_SHOWN} of 40):" in text
    assert len(re.findall(" miss ", text)) == MISSES_SHOWN


def test_the_summary_counts_by_method_and_length(measured: ResultsRecord) -> None:
    first, second = REPORT.summary(measured)
    assert (first["method"], first["hits"], first["trials"]) == ("none", 7, 12)
    assert first["low"] == wilson(7, 12).low
    assert [(row["length"], row["hits"], row["trials"]) for row in first["by_length"]] == [
        (4000, 6, 6),
        (12000, 1, 6),
    ]
    assert first["effective_window"]["effective_window"] == 5980
    assert second["effective_window"]["fails_at"] is None


def test_the_page_has_what_it_takes_to_measure_again(measured: ResultsRecord) -> None:
    changed = replace(measured, command=("ropewalk", "passkey", "my model.gguf", "--seed", "3"))
    page = html.document_fromstring(REPORT.page(changed))
    said = page.text_content()
    for words in (
        *("A five-digit number is hidden", "ab12ab12", "2026-01-02T03:04:05", "A Processor", "0.1.0"),
        *("Wilson", "Greedy decoding, exact match", "f16"),
    ):
        assert words in said, words
    assert page.xpath("//code/text()") == ["ropewalk passkey 'my model.gguf' --seed 3"]
    settings = {row[0].text_content(): row[1].text_content() for row in page.xpath("//table//tr[th][td]")}
    assert settings["seed"] == "0" and settings["lengths"] == "4,000" and settings["trials"] == "2"
    assert len(page.xpath("//table[@class='heat']")) == 2
    answers = page.xpath("//section[h2='Every answer']//tbody/tr")
    assert len(answers) == 18


def test_the_page_names_the_runs_it_goes_back_to(measured: ResultsRecord) -> None:
    said = html.document_fromstring(
        REPORT.page(replace(measured, earlier=(record().provenance,)))
    ).text_content()
    assert "earlier run 1" in said and said.count("2026-01-02T03:04:05") == 2
    html.document_fromstring(REPORT.page(replace(measured, earlier=({},), machine={}, settings={})))


def test_the_picture_has_model_date_and_counts(measured: ResultsRecord) -> None:
    svg = REPORT.picture(measured, "svg").decode()
    for words in ("Passkey test: model.gguf", "fingerprint ab12ab12", "2026-01-02", "7/12, 58% (32% to 81%)"):
        assert words in svg, words


def test_plans_are_recorded_with_all_their_numbers() -> None:
    plan = ContextPlan(
        method="dprope",
        options="threshold=0.05",
        train_length=2000,
        target_length=4000,
        schedule=(ScheduleStep(4000, (1.0, 2.0)),),
    )
    plain, extended = recorded_plans(
        [LabelledPlan("none", "none", {}, None), LabelledPlan("dprope x", "dprope", {}, plan)]
    )
    assert (plain.label, plain.plan) == ("none", None)
    assert extended.label == "dprope x" and extended.plan is not None
    assert extended.plan["schedule"][0]["frequency_factors"] == [1.0, 2.0]
    assert extended.plan["options"] == "threshold=0.05"
    page = REPORT.page(record(plans=(plain, extended), results=(as_row(result(method="dprope x")),)))
    (row,) = html.document_fromstring(page).xpath("//section[h2='How it was measured']//tr[th='dprope x']")
    assert [cell.text_content() for cell in row] == ["dprope x", "dprope", "2,000", "4,000", "threshold=0.05"]
