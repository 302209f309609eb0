"""What retrieval tests (passkey, lines, needle) put out: heat maps, effective windows, what misses said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from ropewalk.evaluation.effective_window import SHARE, EffectiveWindow, effective_context_window
from ropewalk.evaluation.heat_map import HeatMap, depth_label, heat_maps
from ropewalk.evaluation.heat_map_text import heat_maps_text
from ropewalk.evaluation.report import Report
from ropewalk.evaluation.report_page import Page, Section, Table, Text, page_html
from ropewalk.evaluation.report_provenance import incomplete_words, notes, provenance_section
from ropewalk.evaluation.report_table_text import folded, table_text
from ropewalk.evaluation.results_file import ResultsRecord
from ropewalk.evaluation.results_retrieval import retrieval_results
from ropewalk.evaluation.retrieval import RetrievalResult
from ropewalk.wording.quantities import clock
from ropewalk.wording.terminal import without_control

MISSES_SHOWN = 12
"""Misses whose answers a terminal shows; the page and the results file have all."""

_ANSWER = 200  # characters of an answer on the page
_WINDOW_WORDS = (
    "The effective context window is the longest distance from what is hidden to the prompt's end at which "
    f"at least {SHARE:.0%} of the trials hit, and at every shorter distance tried in prompts no longer than "
    "that (Chen et al. 2023, section 3.3)."
)


@dataclass(frozen=True)
class RetrievalWords:
    """What a test is, in words.

    Attributes:
        title: `Passkey test`.
        explanation: what is asked and how to read the result, for people who have never read a paper: a
            paragraph of about two sentences.
        rule: how answers are judged, such as `exact match`.
        haystack: the text that is read, where it is one with a name.
    """

    title: str
    explanation: str
    rule: str = "exact match"
    haystack: str = ""


PASSKEY = RetrievalWords(
    "Passkey test",
    "A five-digit number is hidden somewhere in a long, dull text, and at the end the model is asked for it: "
    "if it answers with exactly that number, it can still use what it read that far back. Each cell of the "
    "maps says for one length and one place how often it could, out of how many tries.",
)


def retrieval_report(words: RetrievalWords) -> Report:
    """The views of a retrieval test's results, whose rows are those of `results_retrieval`."""
    return Report(
        summary=_summary,
        text=lambda record, colour, blocks: _text(words, record, colour, blocks),
        picture=lambda record, picture_format: _picture(words, record, picture_format),
        page=lambda record: _page(words, record),
    )


def _maps(record: ResultsRecord, results: Sequence[RetrievalResult]) -> tuple[HeatMap, ...]:
    """One for each method that was asked for, in that order, those to come included."""
    return heat_maps(results, methods=[plan.label for plan in record.plans])


def _summary(record: ResultsRecord) -> Sequence[Mapping[str, Any]]:
    results = retrieval_results(record)
    windows = {window.method: window for window in effective_context_window(results)}
    return [
        {
            "method": found.method,
            **found.total.as_json(),
            "by_length": [
                {"length": length, **found.of_length(length).as_json()} for length in found.lengths
            ],
            "effective_window": windows[found.method].as_json() if found.method in windows else None,
        }
        for found in _maps(record, results)
    ]


def _text(words: RetrievalWords, record: ResultsRecord, colour: bool, blocks: bool) -> str:
    results = retrieval_results(record)
    dash = {} if blocks else {"–": "-", "…": "..."}
    parts = [incomplete_words(record)] if not record.complete else []
    parts.append(heat_maps_text(_maps(record, results), colour=colour, blocks=blocks))
    parts.append(folded(f"{_how(words, results)}"))
    parts.append(f"Effective context window:\n{_windows_text(results)}")
    misses = [result for result in results if not result.hit]
    if misses:
        more = f" (the first {MISSES_SHOWN} of {len(misses):,})" if len(misses) > MISSES_SHOWN else ""
        parts.append(f"Misses{more}:\n{table_text(_answers(misses[:MISSES_SHOWN], 60))}")
    text = "\n\n".join(parts)
    for character, other in dash.items():
        text = text.replace(character, other)
    return text if blocks else text.encode("ascii", "replace").decode()


def _windows_text(results: Sequence[RetrievalResult]) -> str:
    return "\n".join(
        folded(f"{window.method}: {window.words}.") for window in effective_context_window(results)
    )


def _picture(words: RetrievalWords, record: ResultsRecord, picture_format: str) -> bytes:
    from ropewalk.evaluation.heat_map_picture import draw_heat_maps  # noqa: PLC0415  # an extra

    results = retrieval_results(record)
    incomplete = [incomplete_words(record)] if not record.complete else []
    return draw_heat_maps(
        _maps(record, results),
        picture_format,
        title=f"{words.title}: {record.model.file}",
        notes=[*incomplete, _how(words, results), *notes(record)],
    )


def _page(words: RetrievalWords, record: ResultsRecord) -> str:
    results = retrieval_results(record)
    maps = _maps(record, results)
    warning = (Text((incomplete_words(record),), warning=True),) if not record.complete else ()
    sections = [
        Section("Result", (*warning, _methods_table(maps, results), Text((_WINDOW_WORDS,)))),
        Section("Hits by length and depth", (Text((_how(words, results),)), *maps)),
        provenance_section(record),
        Section("Every answer", (_answers(results, _ANSWER),)),
    ]
    title = f"{words.title}: {record.model.file}"
    return page_html(Page(title, Text((words.explanation,)), tuple(sections)))


def _methods_table(maps: Sequence[HeatMap], results: Sequence[RetrievalResult]) -> Table:
    windows = {window.method: window for window in effective_context_window(results)}
    by_method = {method: list(rows) for method, rows in groupby(sorted(results, key=_method), key=_method)}
    return Table(
        "All methods; intervals are of 95% (Wilson)",
        ("method", "hits", "effective context window", "tokens computed", "time"),
        tuple(
            (
                found.method,
                found.total.words,
                _window_words(windows.get(found.method)),
                f"{sum(row.computed_tokens for row in by_method.get(found.method, [])):,}",
                clock(sum(row.seconds for row in by_method.get(found.method, []))),
            )
            for found in maps
        ),
        frozenset({1, 3, 4}),
    )


def _method(result: RetrievalResult) -> str:
    return result.method


def _window_words(window: EffectiveWindow | None) -> str:
    return "none tried" if window is None else window.words


def _how(words: RetrievalWords, results: Sequence[RetrievalResult]) -> str:
    """How to take the numbers: `Greedy decoding, exact match; 95% Wilson intervals; prompts of ...`."""
    shortest, longest = min(r.prompt_tokens for r in results), max(r.prompt_tokens for r in results)
    lengths = f"{shortest:,}" if shortest == longest else f"{shortest:,} to {longest:,}"
    haystack = f" Haystack: {without_control(words.haystack)}." if words.haystack else ""
    return (
        f"Greedy decoding, {words.rule}; 95% Wilson intervals; prompts of {lengths} tokens as run.{haystack}"
    )


def _answers(results: Sequence[RetrievalResult], longest: int) -> Table:
    return Table(
        "Answers, greedy, as they came",
        ("method", "length", "depth", "trial", "tokens", "result", "expected", "answer"),
        tuple(
            (
                result.method,
                f"{result.length:,}",
                depth_label(result.depth),
                str(result.trial + 1),
                f"{result.prompt_tokens:,}",
                "hit" if result.hit else "miss",
                ", ".join(result.expected),
                _shortened(result.answer, longest),
            )
            for result in results
        ),
        frozenset({1, 2, 3, 4}),
    )


def _shortened(answer: str, longest: int) -> str:
    line = " ".join(without_control(answer).split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"
