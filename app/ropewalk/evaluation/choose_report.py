"""What `ropewalk choose` shows, all of it made from the results that were kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ropewalk.evaluation.choose import Contest, Decision, decide
from ropewalk.evaluation.choose_evidence import RecordedEvidence
from ropewalk.evaluation.choose_words import Told, standing_words, tell
from ropewalk.evaluation.report import Report
from ropewalk.evaluation.report_chart import Bar, BarChart
from ropewalk.evaluation.report_page import Page, Picture, Section, Table, Text, page_html
from ropewalk.evaluation.report_provenance import incomplete_words, notes, provenance_section
from ropewalk.evaluation.report_table_text import folded
from ropewalk.evaluation.results_file import ResultsRecord
from ropewalk.evaluation.statistics import Accuracy

_INTRODUCTION = (
    "Which method makes this model read longer texts? Each was measured as far as it took to tell it from "
    "the others: by how well it foresees a text, and by whether the model still finds a number hidden in a "
    "long one."
)


def choose_report(
    contest: Contest,
    disturbances: Mapping[str, float],
    target_length: int,
    command_for: Callable[[str], str | None],
) -> Report:
    """The views of a choice.

    Args:
        contest: who is in the running.
        disturbances: by label.
        target_length: L' in tokens.
        command_for: the command that bakes a plan, by its label; None for the plain model.
    """

    def told(record: ResultsRecord) -> tuple[Decision, Told]:
        decision = decide(contest, RecordedEvidence(record.results))
        return decision, tell(contest, decision, disturbances, target_length)

    def summary(record: ResultsRecord) -> Sequence[Mapping[str, Any]]:
        decision, words = told(record)
        return [_summary(contest, decision, words, disturbances, command_for)]

    def text(record: ResultsRecord, _colour: bool, blocks: bool) -> str:
        decision, words = told(record)
        found = _text(record, words, command_for(decision.winner))
        return found if blocks else found.encode("ascii", "replace").decode()

    def picture(record: ResultsRecord, picture_format: str) -> bytes:
        from ropewalk.evaluation.report_picture import draw_charts  # noqa: PLC0415  # an extra

        decision, words = told(record)
        title = f"{record.model.file}, {target_length:,} tokens: {words.result[0]}"
        charts = _charts(contest, decision, disturbances, target_length)
        return draw_charts(charts, picture_format, title=title, notes=notes(record))

    def page(record: ResultsRecord) -> str:
        decision, words = told(record)
        command = command_for(decision.winner)
        charts = _charts(contest, decision, disturbances, target_length)
        return page_html(_page(record, contest, decision, words, command=command, charts=charts))

    return Report(summary, text, picture, page)


def _text(record: ResultsRecord, words: Told, command: str | None) -> str:
    parts = [folded(incomplete_words(record))] if not record.complete else []
    for part in words.rounds:
        parts.append("\n".join([folded(f"{part.title}:"), *(folded(s) for s in part.sentences)]))
    parts.append("\n".join(folded(f"Choice: {s}" if i == 0 else s) for i, s in enumerate(words.result)))
    parts += [folded(f"Note: {warning}") for warning in words.warnings]
    if command is not None:
        parts.append(f"To bake it:\n  {command}")  # not folded: it is to be copied
    return "\n\n".join(parts)


def _summary(
    contest: Contest,
    decision: Decision,
    words: Told,
    disturbances: Mapping[str, float],
    command_for: Callable[[str], str | None],
) -> dict[str, Any]:
    return {
        "choice": decision.winner,
        "command": command_for(decision.winner),
        "decided": decision.decided,
        "result": list(words.result),
        "warnings": list(words.warnings),
        "order": [{"method": label, "disturbance": disturbances[label]} for label in contest.order],
        "stages": [
            {
                "name": stage.name,
                "first": stage.first,
                "end": stage.end,
                "methods": [
                    {
                        "method": verdict.label,
                        "perplexity": verdict.perplexity,
                        "excess": verdict.excess.mean,
                        "excess_low": _finite(verdict.excess.low),
                        "excess_high": _finite(verdict.excess.high),
                        "kept": verdict.kept,
                    }
                    for verdict in verdicts
                ],
            }
            for stage, verdicts in zip(contest.stages, decision.stages, strict=False)
        ],
        "race": [
            {
                "method": standing.label,
                "cells": decision.cells,
                **Accuracy(standing.hits, standing.asked).as_json(),
                "alike": [
                    label
                    for label in contest.order
                    if label != standing.label and contest.alike[label] == contest.alike[standing.label]
                ],
            }
            for standing in decision.standings
        ],
        "control": None if decision.control is None else list(decision.control),
    }


def _finite(value: float) -> float | None:
    """JSON has no infinity."""
    return value if math.isfinite(value) else None


def _charts(
    contest: Contest, decision: Decision, disturbances: Mapping[str, float], target_length: int
) -> list[BarChart]:
    charts = [
        BarChart(
            "Disturbance of the rotary angles",
            "nats, mean over pairs, times 1000",
            tuple(
                Bar(label, disturbances[label], marked=label == decision.winner) for label in contest.order
            ),
            "the choice",
        )
    ]
    charts += [
        BarChart(
            f"Perplexity of {stage.name}",
            f"tokens {stage.first + 1:,} to {stage.end:,}",
            tuple(
                Bar(
                    verdict.label,
                    verdict.perplexity,
                    marked=verdict.label == decision.winner,
                    note="" if verdict.kept else "dropped",
                )
                for verdict in verdicts
            ),
            "the choice",
        )
        for stage, verdicts in zip(contest.stages, decision.stages, strict=False)
    ]
    asked = [Accuracy(standing.hits, standing.asked) for standing in decision.standings]
    if any(accuracy.trials for accuracy in asked):
        charts.append(
            BarChart(
                f"Share of passkeys found at {target_length:,} tokens",
                "of those asked for; 95% Wilson intervals",
                tuple(
                    Bar(
                        standing.label,
                        accuracy.share,
                        accuracy.interval.low,
                        accuracy.interval.high,
                        marked=standing.label == decision.winner,
                        note=f"{accuracy.hits}/{accuracy.trials}",
                    )
                    for standing, accuracy in zip(decision.standings, asked, strict=True)
                    if accuracy.trials
                ),
                "the choice",
            )
        )
    return charts


def _page(
    record: ResultsRecord,
    contest: Contest,
    decision: Decision,
    words: Told,
    *,
    command: str | None,
    charts: Sequence[BarChart],
) -> Page:
    warning = (Text((incomplete_words(record),), warning=True),) if not record.complete else ()
    choice: list[Text | Table | Picture] = [*warning, Text(words.result)]
    if words.warnings:
        choice.append(Text(words.warnings, warning=True))
    if command is not None:
        choice += [Text(("To bake it:",)), Text((command,), code=True)]
    sections = [Section("Choice", tuple(choice))]
    sections += [Section(part.title, (Text(part.sentences),)) for part in words.rounds]
    if decision.standings:
        sections.append(
            Section(
                "How the race ended",
                (
                    Table(
                        f"Of {decision.cells} keys each; intervals are of 95% (Wilson)",
                        ("method", "found", "how it stood"),
                        tuple(
                            (
                                standing.label,
                                Accuracy(standing.hits, standing.asked).words,
                                standing_words(standing, decision, contest.plain),
                            )
                            for standing in decision.standings
                        ),
                    ),
                ),
            )
        )
    sections.append(Section("The numbers", tuple(Picture(chart) for chart in charts)))
    sections.append(provenance_section(record))
    return Page(f"A method for {record.model.file}", Text((_INTRODUCTION,)), tuple(sections))
