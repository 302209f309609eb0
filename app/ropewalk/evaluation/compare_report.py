"""What `ropewalk compare` shows: one table, and one page with the plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ropewalk.evaluation.candidates import LeftOut
from ropewalk.evaluation.compare import Compared, compared, passkey_answers
from ropewalk.evaluation.heat_map import heat_maps
from ropewalk.evaluation.report import Report
from ropewalk.evaluation.report_chart import Bar, BarChart, ChartLine, LineChart, Point
from ropewalk.evaluation.report_page import Page, Picture, Section, Table, Text, page_html
from ropewalk.evaluation.report_provenance import incomplete_words, notes, provenance_section
from ropewalk.evaluation.report_table_text import folded, table_text
from ropewalk.evaluation.results_file import ResultsRecord
from ropewalk.wording.quantities import size

_NONE = "-"
_MOST_LINES = 7
_INTRODUCTION = (
    "Several methods that make a model read longer texts, on the same texts and questions. Found: how many "
    "of the five-digit numbers hidden in long texts the model gave back exactly. Perplexity: how well it "
    "foresees a text; lower is better. Memory and speed are what each costs on the machine that measured."
)
_HOW = (
    "Sorted by keys found, then by perplexity at the longest length. Greedy decoding, exact match, 95% "
    "Wilson intervals. KV: keys and values for the longest text as the library laid them out. Tokens/s: "
    "prompt tokens, slowest to fastest cell; other work on the machine shows in it."
)


def compare_report(left_out: Sequence[LeftOut]) -> Report:
    """The views of a comparison.

    Args:
        left_out: what is not compared, and why.
    """

    def text(record: ResultsRecord, _colour: bool, blocks: bool) -> str:
        found = _text(record, left_out)
        return found if blocks else found.encode("ascii", "replace").decode()

    def picture(record: ResultsRecord, picture_format: str) -> bytes:
        from ropewalk.evaluation.report_picture import draw_charts  # noqa: PLC0415  # an extra

        below = [*([incomplete_words(record)] if not record.complete else []), _HOW, *notes(record)]
        title = f"Methods compared: {record.model.file}"
        return draw_charts(_charts(record, compared(record)), picture_format, title=title, notes=below)

    return Report(_summary, text, picture, lambda record: page_html(_page(record, left_out)))


def _summary(record: ResultsRecord) -> Sequence[Mapping[str, Any]]:
    return [row.as_json() for row in compared(record)]


def _text(record: ResultsRecord, left_out: Sequence[LeftOut]) -> str:
    parts = [folded(incomplete_words(record))] if not record.complete else []
    rows = compared(record)
    lengths = sorted({length for row in rows for length in row.perplexities})
    shown = lengths if len(lengths) < 3 else [lengths[0], lengths[-1]]  # the page has all
    parts.append(table_text(_table(rows, shown, several=_several(rows))))
    parts.append(folded(f"{_HOW} Perplexity (PPL) is of {record.settings['text']}, cut to each length."))
    if left_out:
        parts.append(
            "Not compared:\n" + "\n".join(folded(f"{entry.label}: {entry.reason}") for entry in left_out)
        )
    return "\n\n".join(parts)


def _table(rows: Sequence[Compared], lengths: Sequence[int], *, several: bool) -> Table:
    """Names stand last, where they may be long."""
    head = ("FOUND", "95%", *(f"PPL {length:,}" for length in lengths), "KV", "TOKENS/S", "METHOD")
    cells = tuple(
        (
            f"{row.found.hits}/{row.found.trials}",
            _interval(row),
            *(_perplexity(row, length) for length in lengths),
            _NONE if row.cache_bytes is None else size(row.cache_bytes),
            _speed(row),
            row.method,
        )
        for row in rows
    )
    caption = "Found: of all lengths together" if several else "Methods compared"
    return Table(caption, head, cells, frozenset(range(len(head) - 1)))


def _page(record: ResultsRecord, left_out: Sequence[LeftOut]) -> Page:
    rows = compared(record)
    lengths = sorted({length for row in rows for length in row.perplexities})
    warning = (Text((incomplete_words(record),), warning=True),) if not record.complete else ()
    table = _table(rows, lengths, several=_several(rows))
    answers = passkey_answers(record)
    sections = [
        Section("Result", (*warning, table, Text((_HOW,)))),
        Section("Plots", tuple(Picture(chart) for chart in _charts(record, rows))),
    ]
    if answers:
        maps = heat_maps(answers, methods=[row.method for row in rows if row.found.trials])
        sections.append(Section("Keys found by length and depth", tuple(maps)))
    if left_out:
        listed = Table("And why", ("method", "reason"), tuple((e.label, e.reason) for e in left_out))
        sections.append(Section("Not compared", (listed,)))
    sections.append(provenance_section(record))
    return Page(f"Methods compared: {record.model.file}", Text((_INTRODUCTION,)), tuple(sections))


def _charts(record: ResultsRecord, rows: Sequence[Compared]) -> list[LineChart | BarChart]:
    charts: list[LineChart | BarChart] = []
    asked = [row for row in rows if row.found.trials]
    if asked:
        charts.append(BarChart("Share of keys found", "of those hidden; 95% Wilson intervals", tuple(
            Bar(
                row.method,
                row.found.share,
                row.found.interval.low,
                row.found.interval.high,
                note=f"{row.found.hits}/{row.found.trials}",
            )
            for row in asked
        )))  # fmt: skip
    lengths = sorted({length for row in rows for length in row.perplexities})
    if len(lengths) > 1:
        charts.append(_perplexity_lines(record, rows))
    charts += [_ratios(rows, length) for length in sorted({*lengths[:1], *lengths[-1:]})]
    cached = [row for row in rows if row.cache_bytes is not None]
    if len({row.cache_bytes for row in cached}) > 1:
        bars = tuple(Bar(row.method, (row.cache_bytes or 0) / 1e6) for row in cached)
        charts.append(BarChart("KV cache for the longest text", "MB", bars))
    timed = [(row, row.speed) for row in rows if row.speed is not None]
    if timed:
        bars = tuple(Bar(row.method, speed.mean, speed.low, speed.high) for row, speed in timed)
        charts.append(BarChart("Reading speed", "prompt tokens per second, slowest to fastest cell", bars))
    return charts


def _perplexity_lines(record: ResultsRecord, rows: Sequence[Compared]) -> LineChart:
    """Of the first few alone: more curves than styles are none."""
    shown = [row for row in rows if row.perplexities][:_MOST_LINES]
    more = len(rows) - len(shown)
    of = f", the first {len(shown)} of {len(rows)} methods" if more else ""
    return LineChart(
        f"Perplexity of {record.settings['text']}{of}",
        "length in tokens",
        "perplexity",
        tuple(
            ChartLine(
                row.method,
                tuple(Point(length, found.perplexity) for length, found in sorted(row.perplexities.items())),
            )
            for row in shown
        ),
        log_y=True,
        mark=record.settings["train_length"],
        mark_label="train length",
    )


def _ratios(rows: Sequence[Compared], length: int) -> BarChart:
    """Differences on the same tokens, which are surer than the perplexities themselves."""
    bars = []
    for row in rows:
        found = row.perplexities.get(length)
        if found is not None and found.ratio is not None:
            low, high = found.ratio_interval or (None, None)
            bars.append(
                Bar(
                    row.method,
                    100 * (found.ratio - 1),
                    None if low is None else 100 * (low - 1),
                    None if high is None else 100 * (high - 1),
                    note=f"{found.perplexity:.2f}",
                )
            )
    return BarChart(
        f"Perplexity at {length:,} tokens against the plain model's",
        "percent more (to the right: worse); 95% intervals from the same tokens",
        tuple(bars),
    )


def _several(rows: Sequence[Compared]) -> bool:
    return any(len(row.by_length) > 1 for row in rows)


def _interval(row: Compared) -> str:
    interval = row.found.interval
    return f"{interval.low:.0%}-{interval.high:.0%}".replace("%-", "-") if row.found.trials else _NONE


def _perplexity(row: Compared, length: int) -> str:
    found = row.perplexities.get(length)
    if found is None:
        return _NONE
    return f"{found.perplexity:.2f}" if found.perplexity < 1000 else f"{found.perplexity:.2g}"


def _speed(row: Compared) -> str:
    return _NONE if row.speed is None else f"{row.speed.low:,.0f}-{row.speed.high:,.0f}"
