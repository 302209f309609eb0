"""Results as one self-contained HTML page: no script, nothing from outside, for screens and for paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from ropewalk.evaluation.heat_map import HeatMap, depth_label, level
from ropewalk.evaluation.report_chart import BarChart, LineChart
from ropewalk.evaluation.report_chart_svg import bar_chart_svg, line_chart_svg
from ropewalk.evaluation.report_style import style_sheet
from ropewalk.evaluation.statistics import Accuracy
from ropewalk.wording.terminal import without_control

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"  # the browser fetches nothing, whatever stands here


@dataclass(frozen=True)
class Text:
    """Paragraphs.

    Attributes:
        paragraphs: each without markup.
        warning: whether they are to be seen before all else.
        code: whether they are a command or another thing to be typed as it stands.
    """

    paragraphs: tuple[str, ...]
    warning: bool = False
    code: bool = False


@dataclass(frozen=True)
class Table:
    """A table whose first column names its rows.

    Attributes:
        caption: what it shows.
        head: the columns' names.
        rows: as many cells in each.
        numbers: which columns hold numbers, which then stand to the right.
        best: the row to be seen first, by its number from 0; None for none.
    """

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int] = frozenset()
    best: int | None = None


@dataclass(frozen=True)
class Picture:
    """A chart, with a caption.

    Attributes:
        chart: what is drawn.
        caption: what to see in it; empty for none.
    """

    chart: LineChart | BarChart
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A part of a page under a heading."""

    title: str
    parts: tuple[Text | Table | Picture | HeatMap, ...]


@dataclass(frozen=True)
class Page:
    """A whole page.

    Attributes:
        title: also of the window.
        introduction: what this is, for people who have never read a paper.
        sections: from top to bottom.
    """

    title: str
    introduction: Text
    sections: tuple[Section, ...]


def page_html(page: Page) -> str:
    """A page as HTML; whatever texts are in it (answers of a model, names of files) is text and no markup."""
    charts = 0
    body = [f"<header><h1>{_text(page.title)}</h1>{_paragraphs(page.introduction)}</header>"]
    for i, section in enumerate(page.sections, start=1):
        body.append(
            f'<section aria-labelledby="section-{i}"><h2 id="section-{i}">{_text(section.title)}</h2>'
        )
        for part in section.parts:
            charts += isinstance(part, Picture)
            body.append(_part(part, f"chart-{charts}"))
        body.append("</section>")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(page.title)}</title>\n<style>\n{style_sheet()}</style>\n</head>\n"
        "<body>\n<main>\n" + "\n".join(body) + "\n</main>\n</body>\n</html>\n"
    )


def _part(part: Text | Table | Picture | HeatMap, identity: str) -> str:
    if isinstance(part, Text):
        return _paragraphs(part)
    if isinstance(part, Table):
        return _table(part)
    if isinstance(part, HeatMap):
        return _heat_map(part)
    svg = (
        line_chart_svg(part.chart, identity)
        if isinstance(part.chart, LineChart)
        else bar_chart_svg(part.chart, identity)
    )
    caption = f"{part.chart.title}{'. ' if part.caption else ''}{part.caption}"
    return f"<figure>{_clean(svg)}<figcaption>{_text(caption)}</figcaption></figure>"


def _paragraphs(text: Text) -> str:
    kind = ' class="warning"' if text.warning else ""
    return "".join(
        f"<p{kind}>{f'<code>{_text(p)}</code>' if text.code else _text(p)}</p>" for p in text.paragraphs
    )


def _table(table: Table) -> str:
    head = "".join(
        f'<th scope="col"{_kind(table, i)}>{_text(name)}</th>' for i, name in enumerate(table.head)
    )
    rows = []
    for number, (first, *others) in enumerate(table.rows):
        best = ' class="best"' if number == table.best else ""
        cells = "".join(
            f"<td{_kind(table, i, of_text=True)}>{_text(cell)}</td>" for i, cell in enumerate(others, start=1)
        )
        rows.append(f'<tr{best}><th scope="row"{_kind(table, 0)}>{_text(first)}</th>{cells}</tr>')
    return _framed(table.caption, f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>")


def _kind(table: Table, column: int, *, of_text: bool = False) -> str:
    if column in table.numbers:
        return ' class="number"'
    return ' class="text"' if of_text else ""


def _heat_map(heat_map: HeatMap) -> str:
    depths = "".join(f'<th scope="col">{depth_label(depth)}</th>' for depth in heat_map.depths)
    head = f'<thead><tr><th scope="col">length</th>{depths}<th scope="col">all depths</th></tr></thead>'
    rows = [
        f'<tr><th scope="row" class="number">{length:,}</th>'
        + "".join(_cell(heat_map.at(length, depth)) for depth in heat_map.depths)
        + f'<td class="sum">{_text(heat_map.of_length(length).words)}</td></tr>'
        for length in heat_map.lengths
    ]
    caption = (
        f"{heat_map.total.words}. Rows: prompt length in tokens; columns: depth, 0 at the start, "
        "1 at the end; in each cell hits/trials."
    )
    table = _framed(caption, f"{head}<tbody>{''.join(rows)}</tbody>", kind=' class="heat"')
    return f"<h3>{_text(heat_map.method)}</h3>{table}"


def _cell(accuracy: Accuracy) -> str:
    shade = level(accuracy)
    if shade is None:
        return '<td class="untried">–</td>'
    counts = f"{accuracy.hits}/{accuracy.trials}"
    return f'<td class="h{shade}" title="{accuracy.words}">{counts}</td>'


def _framed(caption: str, content: str, *, kind: str = "") -> str:
    return f'<div class="scroll"><table{kind}><caption>{_text(caption)}</caption>{content}</table></div>'


def _text(text: str) -> str:
    return escape(_clean(text))


def _clean(text: str) -> str:
    """Without what HTML does not allow: control characters, halves of characters."""
    return without_control(text).encode("utf-8", "replace").decode()


def columns(head: Sequence[str], *names: str) -> frozenset[int]:
    """The numbers of the columns of those names, for `Table.numbers`."""
    return frozenset(i for i, name in enumerate(head) if name in names)
