"""Perplexities for people: a table and curves in the terminal, a picture, a page."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

from ropewalk.evaluation.perplexity_record import Interval, MethodAtLength, by_method_and_length
from ropewalk.evaluation.provenance import machine_words
from ropewalk.evaluation.report import Report
from ropewalk.evaluation.report_chart import ChartLine, LineChart, Point
from ropewalk.evaluation.report_chart_text import WIDTH, line_chart_text
from ropewalk.evaluation.report_page import Page, Picture, Section, Table, Text, columns, page_html
from ropewalk.evaluation.results_file import ResultsRecord
from ropewalk.wording.quantities import count
from ropewalk.wording.terminal import without_control

_LONGEST_LABEL = 16
_LOG_FROM = 4.0  # by which curves that differ so much are drawn logarithmically

_INTERVALS = (
    "95% intervals: runs of neighbouring tokens, or windows where there are at least eight, are taken as the "
    "independent observations, since neighbouring tokens are not; they say how sure this text's "
    "number is, not what another text would give. Ratios are of the same tokens."
)

_STOPPED = "This is not all that was asked for: the run was stopped before."


def perplexity_report() -> Report:
    """The views of `ropewalk perplexity`."""
    return Report(_summary, _text, _picture, _page)


def _summary(record: ResultsRecord) -> Sequence[Mapping[str, Any]]:
    return [row.as_json() for row in by_method_and_length(record)]


def _text(record: ResultsRecord, _colour: bool, blocks: bool) -> str:
    rows = by_method_and_length(record)
    several = len(record.plans) > 1
    labels = max(len("METHOD"), min(_LONGEST_LABEL, max(len(_clean(row.method)) for row in rows)))
    head = f"{'LENGTH':>7}  {'METHOD':<{labels}}  {'PERPLEXITY':>10}  {'95% INTERVAL':<16}"
    lines = [
        *wrap(_clean(how_measured(record)), WIDTH),
        "",
        head + (f"  AGAINST {_first(record)}" if several else ""),
    ]
    for row in rows:
        label = _clean(row.method)
        if len(label) > labels:
            lines.append(f"{'':>7}  {label}"[:WIDTH])
            label = ""
        cells = f"{row.length:>7,}  {label:<{labels}}  {_number(row.perplexity):>10}  {_to(row.interval):<16}"
        lines.append(f"{cells}  {_ratio(row)}" if several else cells)
    if len({row.length for row in rows}) > 1:
        lines += ["", *line_chart_text(perplexity_chart(record, intervals=False), blocks=blocks).splitlines()]
    lines += ["", *wrap(_INTERVALS, WIDTH)]
    lines += ["", _STOPPED] if not record.complete else []
    return "\n".join(line.rstrip()[:WIDTH] for line in lines)


def _picture(record: ResultsRecord, picture_format: str) -> bytes:
    from ropewalk.evaluation.report_picture import draw_charts  # noqa: PLC0415  # needs matplotlib

    title = f"Perplexity of {record.settings['text']} by length, {record.model.file}"
    notes = (*(() if record.complete else (_STOPPED,)), how_measured(record), _INTERVALS)
    return draw_charts([perplexity_chart(record)], picture_format, title=title, notes=notes)


def _page(record: ResultsRecord) -> str:
    rows = by_method_and_length(record)
    several = len(record.plans) > 1
    against = (f"Against {_first(record)}",) if several else ()
    head = ("Length", "Method", "Perplexity", "95% interval", "Tokens", "Windows", "Time", *against)
    cells = tuple(
        (
            f"{row.length:,}",
            row.method,
            _number(row.perplexity),
            _to(row.interval),
            f"{row.n_scored:,}",
            f"{row.n_windows:,}",
            f"{row.seconds:,.0f} s",
            *([_ratio(row)] if several else []),
        )
        for row in rows
    )
    numbers = columns(head, "Length", "Perplexity", "Tokens", "Windows", "Time")
    unfinished = () if record.complete else (Text((_STOPPED,), warning=True),)
    machine = machine_words(dict(record.machine))
    return page_html(
        Page(
            f"Perplexity of {record.model.file}",
            Text(
                (
                    "Perplexity says how well a model foresees a text: the number of tokens that it would "
                    "have to guess among at each place. Lower is better, and a context that is too long for "
                    "a model shows as a rise.",
                )
            ),
            (
                Section(
                    "Perplexity by length",
                    (
                        *unfinished,
                        Picture(perplexity_chart(record)),
                        Table(how_measured(record), head, cells, numbers),
                    ),
                ),
                Section(
                    "How it was measured",
                    (
                        Text((_INTERVALS,)),
                        Text((shlex.join(record.command),), code=True),
                        Text((f"{record.date}, ropewalk {record.ropewalk}, {machine}",)),
                    ),
                ),
            ),
        )
    )


def perplexity_chart(record: ResultsRecord, *, intervals: bool = True) -> LineChart:
    """Perplexity by length, one curve a method.

    Args:
        record: the results.
        intervals: draw the 95% intervals, too; without, differences of methods are better seen.
    """
    rows = by_method_and_length(record)
    lines = []
    for plan in record.plans:
        points = tuple(
            Point(row.length, row.perplexity, *((intervals and row.interval) or (None, None)))
            for row in rows
            if row.method == plan.label
        )
        if points:
            lines.append(ChartLine(plan.label, points))
    values = [row.perplexity for row in rows if math.isfinite(row.perplexity)]
    return LineChart(
        title="Perplexity by length",
        x_label="tokens of context",
        y_label="perplexity",
        lines=tuple(lines),
        log_y=bool(values) and max(values) > _LOG_FROM * min(values),
        mark=record.settings["train_length"],
        mark_label="train length",
    )


def how_measured(record: ResultsRecord) -> str:
    """What was measured, as sentences."""
    said = record.settings
    windows = count(said["windows"], "window")
    text = f"{said['text']} ({said['text_tokens']:,} tokens)"
    if said["stride"] is not None:
        way = (
            f"of {windows} of each length the last {said['stride']:,} tokens, which are the same for every "
            "length (a sliding window)"
        )
    elif said["score_from"]:
        way = f"{windows}, cut to each length, of which tokens count from {said['score_from']:g} on"
    else:
        way = f"{windows}, cut to each length, all tokens in one pass"
    start = (
        "Each window begins with the model's start token"
        if said["start_tokens"]
        else "The model has no start token"
    )
    return f"Perplexity of {text}: {way}. {start}."


def _first(record: ResultsRecord) -> str:
    return _clean(record.plans[0].label)


def _ratio(row: MethodAtLength) -> str:
    if row.ratio is None:
        return ""
    interval = "" if row.ratio_interval is None else f" ({_shares(row.ratio_interval)})"
    return f"{_share(row.ratio)}{interval}"


def _shares(interval: Interval) -> str:
    return f"{_share(interval[0])} to {_share(interval[1])}"


def _share(ratio: float) -> str:
    return f"{ratio:.3f}" if ratio < 10 else f"{ratio:.3g}"


def _to(interval: Interval | None) -> str:
    return "too few tokens" if interval is None else f"{_number(interval[0])} to {_number(interval[1])}"


def _number(perplexity: float) -> str:
    return f"{perplexity:.2f}" if perplexity < 1000 else f"{perplexity:.4g}"


def _clean(label: str) -> str:
    return " ".join(without_control(label).split())
