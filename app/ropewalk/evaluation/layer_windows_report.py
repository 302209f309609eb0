"""What layers lose by windows, the set that was found and its check: for a terminal, a page, a picture."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from textwrap import fill
from typing import Any

from ropewalk.evaluation.layer_windows_findings import Findings, Question, Turns, find, summary_of
from ropewalk.evaluation.layer_windows_plans import command_text
from ropewalk.evaluation.layer_windows_search import SetTried
from ropewalk.evaluation.provenance import machine_words
from ropewalk.evaluation.report import Report
from ropewalk.evaluation.report_chart import Bar, BarChart
from ropewalk.evaluation.report_chart_text import bar_chart_text
from ropewalk.evaluation.report_page import Page, Picture, Section, Table, Text, columns, page_html
from ropewalk.evaluation.results_file import ResultsRecord
from ropewalk.wording.quantities import count, ranges, size

_INTRODUCTION = (
    "A layer with a window sees only the last tokens of a text, and a few at its beginning. That saves "
    "memory and time. Most layers of a model lose nothing by it, a few carry what lies far back: which they "
    "are is measured here, layer by layer, and then for a set of them together.",
    "The loss is the mean drop of the log-probability of a hidden key, in nats, and that of as many tokens "
    "of real text besides. Negative: the right answer became likelier.",
)
WIDTH = 80
_SET_HEAD = ("layers", "which", "loss", "keys", "worst key", "text", "")


def windows_report(question: Question, source: Path) -> Report:
    """The views of a run.

    Args:
        question: what it was to find out.
        source: the model's file as it was named, for the command that bakes.
    """

    def found(record: ResultsRecord) -> Findings:
        return find(question, record.results)

    def command(findings: Findings) -> str:
        return command_text(question.plans.bake_command(findings.layers, source)) if findings.layers else ""

    def summary(record: ResultsRecord) -> Sequence[Mapping[str, Any]]:
        findings = found(record)
        return [summary_of(findings, command(findings))]

    def text(record: ResultsRecord, _colour: bool, blocks: bool) -> str:
        findings = found(record)
        parts = [bar_chart_text(_chart(question, findings), blocks=blocks)] if findings.search.singles else []
        if findings.search.sets:
            parts.append(_sets_text(findings))
        parts.append("\n".join(fill(line, WIDTH) for line in _conclusions(question, findings)))
        if findings.layers:
            parts.append(f"To write it into a copy of the file:\n\n    {command(findings)}")
        return "\n\n".join(parts)

    def picture(record: ResultsRecord, picture_format: str) -> bytes:
        findings = found(record)
        # needs matplotlib, which is optional
        draw: Callable[..., bytes] = import_module("ropewalk.evaluation.report_picture").draw_charts
        return draw(
            [_chart(question, findings)],
            picture_format,
            title=f"Windows in {record.model.file}",
            notes=_conclusions(question, findings),
        )

    def page(record: ResultsRecord) -> str:
        findings = found(record)
        return page_html(_page(question, findings, record, command(findings)))

    return Report(summary, text, picture, page)


def _chart(question: Question, findings: Findings) -> BarChart:
    plans, windowed = question.plans, set(findings.layers)
    return BarChart(
        title=f"What a window of {plans.window:,} tokens and {count(plans.sinks, 'sink')} loses in one layer",
        value_label="nats; below 0: the right answer became likelier",
        bars=tuple(
            Bar(f"layer {single.layer}", single.loss, marked=single.layer in windowed)
            for single in findings.search.singles
        ),
        marked_label="has a window in the plan" if windowed else "",
    )


def _set_rows(findings: Findings) -> list[tuple[str, ...]]:
    return [
        (
            str(len(tried.layers)),
            ranges(tried.layers),
            f"{tried.loss.total:+.3f}",
            f"{tried.loss.keys:+.3f}",
            f"{tried.loss.worst:+.3f}",
            f"{tried.loss.text:+.3f}",
            _said(tried),
        )
        for tried in findings.search.sets
    ]


def _said(tried: SetTried) -> str:
    if not tried.complete:
        return "given up at a key"
    if not tried.accepted:
        return "too much"
    return "within the limits" if tried.final else "within the limits so far"


def _sets_text(findings: Findings) -> str:
    lines = ["Sets of layers, in the order in which they were tried (nats)"]
    for layers, which, total, _keys, worst, text, said in _set_rows(findings):
        line = f"{layers:>4} layers: {total}, worst key {worst}, text {text}: {said} ({which})"
        lines.append(fill(line, WIDTH, subsequent_indent=" " * 13))
    return "\n".join(lines)


def _what_is_windowed(question: Question, findings: Findings) -> str:
    search, limits, n_layer = findings.search, question.limits, question.plans.spec.n_layer
    which = ranges(findings.layers)
    if question.given:
        return f"{len(question.given)} of {n_layer} layers have the window ({which})."
    if not search.done:
        return (
            f"Not searched to the end: {len(search.singles)} of {n_layer} layers and "
            f"{count(len(search.sets), 'set')} measured so far."
        )
    if search.found is None:
        return "No layer can have this window within the loss allowed: try a larger --window or --max-loss."
    loss = search.found.loss
    return (
        f"{len(findings.layers)} of {n_layer} layers can have the window ({which}): loss {loss.total:+.3f} "
        f"of {limits.max_loss:g} nats allowed, worst key {loss.worst:+.3f} of {limits.max_drop:g}, over "
        f"{count(loss.n_probes, 'prompt')}."
    )


def _conclusions(question: Question, findings: Findings) -> list[str]:
    """What was found, in sentences."""
    lines = [_what_is_windowed(question, findings)]
    if findings.hits is not None:
        before, after = findings.hits
        lines.append(
            f"Fresh passkey prompts: {after.words} with the windows, {before.words} without "
            "(95% intervals by Wilson)."
        )
        if findings.loses_hits:
            remedy = "windows in fewer layers" if question.given else "a smaller --max-loss or more --keys"
            lines.append(f"The windows lose keys: try {remedy}.")
    if findings.text_drop is not None:
        lines.append(f"Fresh text: {findings.text_drop:+.4f} nats a token.")
    if findings.turns is not None:
        lines += _turn_lines(findings.turns)
    return lines


def _turn_lines(turns: Turns) -> list[str]:
    before, after = turns.kv_bytes
    memory = (
        f"KV cache of {turns.n_ctx:,} tokens: {size(after)} instead of {size(before)}, "
        f"{after / before:.0%} of it."
        if before
        else f"KV cache of {turns.n_ctx:,} tokens: the library does not say."
    )
    return [
        memory,
        f"Reading {turns.prompt_tokens:,} tokens: {turns.prefill[1]:.1f} s instead of "
        f"{turns.prefill[0]:.1f} s ({turns.prefill_ratio:.2f} times as fast); a token written after them: "
        f"{1000 * turns.decode[1]:.1f} ms instead of {1000 * turns.decode[0]:.1f} ms "
        f"({turns.decode_ratio:.2f} times as fast); medians of {count(turns.pairs, 'pair')} in turns.",
    ]


def _page(question: Question, findings: Findings, record: ResultsRecord, command: str) -> Page:
    conclusions = _conclusions(question, findings)
    plan = [Text(tuple(conclusions))]
    if findings.loses_hits or not record.complete:
        said = "" if record.complete else "Not all that was asked for has been measured."
        plan.insert(0, Text((said or "On fresh prompts the windows lose keys.",), warning=True))
    if command:
        plan.append(Text((command,), code=True))
    sets = Table(
        "Sets of layers, in the order in which they were tried; losses in nats",
        _SET_HEAD,
        tuple(_set_rows(findings)),
        columns(_SET_HEAD, "layers", "loss", "keys", "worst key", "text"),
    )
    origin = f"{record.date}; {machine_words(dict(record.machine))}; ropewalk {record.ropewalk}."
    return Page(
        title=f"Windows in {record.model.file}",
        introduction=Text(_INTRODUCTION),
        sections=(
            Section("What was found", tuple(plan)),
            *(
                [Section("Layer by layer", (Picture(_chart(question, findings)),))]
                if findings.search.singles
                else []
            ),
            *([Section("Together", (sets,))] if findings.search.sets else []),
            Section("How it was measured", (Text((shlex.join(record.command),), code=True), Text((origin,)))),
        ),
    )
