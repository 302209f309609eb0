"""The page as a browser and a screen reader take it: parsed, whole by itself, readable in each scheme."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from lxml import etree, html

from retrieval_rows import cells
from ropewalk.evaluation.heat_map import heat_maps
from ropewalk.evaluation.report_chart import Bar, BarChart, ChartLine, LineChart, Point
from ropewalk.evaluation.report_page import Page, Picture, Section, Table, Text, page_html
from ropewalk.evaluation.report_style import DARK, LIGHT

CHART = LineChart("Curve", "x", "y", (ChartLine("m", (Point(1, 1), Point(2, 2))),))
PAGE = Page(
    "A <title> & more",
    Text(("What this is.", "And how to read it.")),
    (
        Section("Maps", tuple(heat_maps(cells({4000: {0.1: "2/3", 0.9: "0/3"}}, ["none", "yarn"])))),
        Section(
            "Charts", (Picture(CHART, "Lower is better."), Picture(BarChart("Bars", "v", (Bar("b", 1),))))
        ),
        Section(
            "Table",
            (
                Text(("Incomplete.",), warning=True),
                Table("A table", ("METHOD", "HITS"), (("none", "1/2"), ("yarn", "2/2")), frozenset({1}), 1),
                Text(("ropewalk passkey 'a b.gguf'",), code=True),
            ),
        ),
    ),
)


def parsed(page: Page = PAGE) -> html.HtmlElement:
    return html.document_fromstring(page_html(page))


def luminance(colour: str) -> float:
    """WCAG 2's relative luminance of #rrggbb."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def scheme(name: str) -> dict[str, str]:
    """The colours that the page's own style sheet has for a scheme, as a browser would find them."""
    style = parsed().findtext(".//style")
    assert style is not None
    pattern = {
        "light": r"^:root \{(.*?)\}",
        "dark": r"prefers-color-scheme: dark\) \{ :root \{(.*?)\}",
        "print": r"@media print \{ :root \{(.*?)\}",
    }[name]
    found = re.search(pattern, style, re.MULTILINE)
    assert found is not None
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", found.group(1)))


class TestStructure:
    def test_it_is_whole_by_itself(self) -> None:
        text = page_html(PAGE)
        page = parsed()
        assert text.startswith("<!DOCTYPE html>")
        tags = {element.tag for element in page.iter() if isinstance(element.tag, str)}
        assert not tags & {"script", "link", "img", "iframe", "object", "embed", "form", "base", "use"}
        named = [name for element in page.iter() for name in element.attrib]
        assert not [name for name in named if name in ("src", "href", "style") or name.startswith("on")]
        style = page.findtext(".//style")
        assert "url(" not in style and "@import" not in style
        (policy,) = page.xpath("//meta[@http-equiv='Content-Security-Policy']/@content")
        assert policy.startswith("default-src 'none'")

    def test_headings_and_landmarks_are_in_order(self) -> None:
        page = parsed()
        assert page.get("lang") == "en"
        assert len(page.xpath("//main")) == len(page.xpath("//h1")) == 1
        assert page.findtext(".//title") == page.findtext(".//h1") == PAGE.title
        assert page.xpath("//section/h2/text()") == ["Maps", "Charts", "Table"]
        levels = [int(h.tag[1]) for h in page.xpath("//h1|//h2|//h3")]
        assert all(after - before <= 1 for before, after in pairwise(levels))
        for section in page.xpath("//section"):
            (named,) = page.xpath(f"//*[@id='{section.get('aria-labelledby')}']")
            assert named.tag == "h2" and named.getparent() is section

    def test_ids_are_unique(self) -> None:
        ids = parsed().xpath("//@id")
        assert len(ids) == len(set(ids)) >= 7

    def test_tables_are_tables(self) -> None:
        tables = parsed().xpath("//table")
        assert len(tables) == 3
        for table in tables:
            columns = len(table.xpath("./thead/tr/th[@scope='col']"))
            assert columns == len(table.xpath("./thead/tr/*")) > 0
            assert len(table.xpath("./caption")) == 1
            for row in table.xpath("./tbody/tr"):
                assert len(row) == columns and row[0].tag == "th" and row[0].get("scope") == "row"

    def test_a_heat_map_has_its_counts(self) -> None:
        first, second = parsed().xpath("//table[@class='heat']")
        for table in (first, second):
            assert table.xpath("./thead/tr/th/text()") == ["length", "0.1", "0.9", "all depths"]
            (row,) = table.xpath("./tbody/tr")
            assert [cell.text_content() for cell in row] == ["4,000", "2/3", "0/3", "2/6, 33% (10% to 70%)"]
            assert [cell.get("class") for cell in row[1:3]] == ["h2", "h0"]

    def test_charts_have_words(self) -> None:
        for figure in parsed().xpath("//figure"):
            (svg,) = figure.xpath("./svg")
            assert svg.get("role") == "img" and svg.xpath("string(./title)") and svg.xpath("string(./desc)")
            assert figure.findtext("figcaption")

    def test_the_best_row_the_warning_and_the_command(self) -> None:
        page = parsed()
        assert page.xpath("//tr[@class='best']/th/text()") == ["yarn"]
        assert page.xpath("//p[@class='warning']/text()") == ["Incomplete."]
        assert page.xpath("//code/text()") == ["ropewalk passkey 'a b.gguf'"]

    def test_what_a_model_answers_is_text(self) -> None:
        evil = "</td><script>alert(1)</script>\x1b[31m\x00\ud800\x85 &amp; <img src=x onerror=y>"
        page = Page(evil, Text((evil,)), (Section(evil, (Table(evil, (evil, "b"), ((evil, evil),)),)),))
        text = page_html(page)
        text.encode()
        root = html.document_fromstring(text)
        assert not root.xpath("//script|//img")
        assert "&amp; <img src=x onerror=y>" in root.xpath("//td")[0].text_content()
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", text)

    def test_it_is_well_formed(self) -> None:
        body = re.sub(r"<meta[^>]*>|<!DOCTYPE html>", "", page_html(PAGE))
        etree.fromstring(body)


class TestStyle:
    @pytest.mark.parametrize("name", ["light", "dark", "print"])
    def test_texts_are_readable(self, name: str) -> None:
        """WCAG 2 AA: 4.5 for text, 3 for what a chart is drawn with."""
        colours = scheme(name)
        for text in ("text", "quiet", "link"):
            assert contrast(colours[text], colours["page"]) >= 4.5, text
        for i in range(5):
            assert contrast(colours[f"h{i}"], colours[f"h{i}-text"]) >= 4.5, i
        for i in range(6):
            assert contrast(colours[f"s{i}"], colours["page"]) >= 3, i

    @pytest.mark.parametrize("name", ["light", "dark", "print"])
    def test_shades_go_one_way_so_that_grey_is_enough(self, name: str) -> None:
        colours = scheme(name)
        shades = [luminance(colours[f"h{i}"]) for i in range(5)]
        assert shades in (sorted(shades), sorted(shades, reverse=True))
        assert all(contrast(colours[f"h{i}"], colours[f"h{i + 1}"]) >= 1.2 for i in range(4))

    def test_schemes_are_those_of_the_module_and_paper_is_light(self) -> None:
        assert scheme("light") == scheme("print") == dict(LIGHT) and scheme("dark") == dict(DARK)

    def test_every_colour_that_is_used_is_defined(self) -> None:
        style = parsed().findtext(".//style")
        assert set(re.findall(r"var\(--([\w-]+)\)", style)) <= set(LIGHT) == set(DARK)

    def test_paper_breaks_pages_sensibly(self) -> None:
        style = parsed().findtext(".//style")
        printed = style[style.rindex("@media print") :]
        for rule in ("break-after: avoid", "break-inside: avoid", "table-header-group", "print-color-adjust"):
            assert rule in printed
