"""Charts: round ticks, ranges, and what the terminal and the page draw of known values."""

from __future__ import annotations

import itertools
import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from ropewalk.evaluation.report_chart import (
    Bar,
    BarChart,
    ChartLine,
    LineChart,
    Point,
    log_ticks,
    number,
    padded_range,
    ticks,
    value_range,
    x_ticks,
)
from ropewalk.evaluation.report_chart_svg import SERIES, bar_chart_svg, line_chart_svg
from ropewalk.evaluation.report_chart_text import bar_chart_text, line_chart_text

XS = (2048.0, 4096.0, 8192.0, 12288.0)


def chart(*values: tuple[float, ...], **changes: Any) -> LineChart:  # noqa: ANN401  # any field
    lines = tuple(
        ChartLine(f"method {i}", tuple(Point(x, y) for x, y in zip(XS, line, strict=False)))
        for i, line in enumerate(values)
    )
    return LineChart("Perplexity", "window (tokens)", "perplexity", lines, **changes)


BARS = BarChart(
    "Sensitivity",
    "change (nats)",
    (Bar("layer 0", -8.0), Bar("layer 1", -4.0, marked=True), Bar("layer 2", 2.0), Bar("layer 3", 0.0)),
    "windowed",
)


def elements(svg: str) -> Any:  # noqa: ANN401  # lxml has no types
    return etree.fromstring(re.sub(r' xmlns="[^"]*"', "", svg))


class TestNumbers:
    @given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
    def test_ticks_are_round_few_and_within(self, low: float, span: float) -> None:
        found = ticks(low, low + span)
        assert 2 <= len(found) <= 6
        step = found[1] - found[0]
        assert f"{step:.6e}"[0] in "125"
        room = 1e-6 * span
        assert all(low - room <= tick <= low + span + room for tick in found)

    def test_a_range_has_as_many_round_numbers_as_there_is_room_for(self) -> None:
        assert ticks(11.2, 21.3) == [12, 14, 16, 18, 20]
        assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
        assert ticks(-8.3, 0.12) == [-8, -6, -4, -2, 0]

    @given(st.floats(1e-3, 1e6), st.floats(1.001, 1e9))
    def test_logarithmic_ticks_are_few_and_within(self, low: float, ratio: float) -> None:
        found = log_ticks(low, low * ratio)
        assert 1 <= len(found) <= 7
        assert all(low * 0.999 <= tick <= low * ratio * 1.001 for tick in found)
        assert found == sorted(found)

    def test_powers_of_ten_where_there_are_many(self) -> None:
        assert log_ticks(9, 120_000) == [10, 100, 1000, 10_000, 100_000]

    def test_lengths_that_were_measured_are_the_ticks(self) -> None:
        assert x_ticks(chart((1, 2, 3, 4))) == list(XS)

    def test_a_range_reaches_to_zero_only_where_that_is_near(self) -> None:
        assert value_range(chart((10, 90))) == (0.0, 90)
        assert value_range(chart((60, 90))) == (60, 90)
        assert value_range(chart((10, 90), log_y=True)) == (10, 90)
        assert padded_range(chart((10, 90)))[0] == 0.0
        low, high = padded_range(chart((10, 1000), log_y=True))
        assert low < 10 and 1000 < high < 1300

    def test_what_is_not_finite_leaves_the_range_alone(self) -> None:
        assert value_range(chart((60, math.inf), (math.nan, 90))) == (60, 90)
        assert value_range(chart((math.inf, math.nan), log_y=True)) == (1.0, 10.0)

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            *((12000, "12,000"), (8.5312, "8.53"), (0.00012, "0.00012"), (123456.7, "123,457")),
            *((-0.2, "-0.200"), (1.5e12, "1.5e+12"), (0, "0"), (math.inf, "inf"), (99.96, "100.0")),
        ],
    )
    def test_numbers_are_short(self, value: float, words: str) -> None:
        assert number(value) == words


class TestTerminal:
    def test_lines_fit_and_name_their_methods(self) -> None:
        text = line_chart_text(chart((12, 11, 10, 9), (12, 11, 100, 5000), log_y=True, mark=8192.0))
        lines = text.splitlines()
        assert max(map(len, lines)) <= 80
        assert "  method 0" in lines and "  method 1" in lines and "logarithmic" in lines[1]
        assert text.count("5,000") == 2, "both panels have the same range"

    def test_a_rising_line_rises(self) -> None:
        """The highest dots of a panel stand at its right end, the lowest at its left."""
        drawn = line_chart_text(chart((60, 70, 80, 90))).splitlines()[3:11]
        top, bottom = drawn[0][11:], drawn[-1][11:]
        assert len(top) - len(top.lstrip()) > 50 and len(bottom) < 20

    def test_without_braille_the_values_are_there(self) -> None:
        text = line_chart_text(chart((12.5, 11, 10, 9)), blocks=False)
        assert text.isascii() and re.search(r"2,048 +12\.5", text)

    def test_bars_are_as_long_as_their_values(self) -> None:
        lines = bar_chart_text(BARS).splitlines()
        bars = [len(re.findall("█", line)) for line in lines[2:6]]
        assert bars[0] == pytest.approx(2 * bars[1], abs=1) and bars[0] == pytest.approx(4 * bars[2], abs=2)
        assert bars[3] == 0
        assert len({line.index("│") for line in lines[2:6]}) == 1, "all stand on one axis"
        assert lines[2].index("█") < lines[2].index("│") < lines[4].index("█")
        assert lines[3].startswith("layer 1 *") and lines[6] == "* windowed"
        assert max(map(len, lines)) <= 80

    def test_bars_in_ascii(self) -> None:
        assert bar_chart_text(BARS, blocks=False).isascii()

    def test_long_labels_and_ends_fit(self) -> None:
        bars = BarChart("t" * 100, "v", (Bar("l" * 70, 1.0, 0.5, 1.0, note="n" * 90), Bar("m", 0.1)))
        assert max(map(len, bar_chart_text(bars).splitlines())) <= 80


class TestPage:
    def test_heights_follow_values(self) -> None:
        svg = elements(line_chart_svg(chart((60, 70, 80, 90)), "c"))
        dots = [float(dot.get("cy")) for dot in svg.iter("circle")][:4]
        steps = [before - after for before, after in itertools.pairwise(dots)]
        assert min(steps) > 0 and max(steps) - min(steps) < 0.2

    def test_equal_ratios_have_equal_heights(self) -> None:
        svg = elements(line_chart_svg(chart((10, 100, 1000, 10_000), log_y=True), "c"))
        dots = [float(dot.get("cy")) for dot in svg.iter("circle")][:4]
        steps = [before - after for before, after in itertools.pairwise(dots)]
        assert max(steps) - min(steps) < 0.2

    def test_lines_are_told_apart_without_colour(self) -> None:
        svg = elements(line_chart_svg(chart(*[(1, 2, 3, 4)] * 7), "c"))
        looks = [
            (path.get("class"), path.get("stroke-dasharray"))
            for path in svg.iter("path")
            if path.get("d").count("L") == 3
        ]
        assert len(looks) == 7 and len({dash for _, dash in looks}) == 7
        assert len({colour for colour, _ in looks}) == SERIES

    def test_a_gap_where_a_value_is_not_finite(self) -> None:
        svg = elements(line_chart_svg(chart((12, math.inf, 10, 9)), "c"))
        long = [path.get("d") for path in svg.iter("path")]
        assert [d.count("L") for d in long] == [1, 1], "two of its points and the legend's sample"
        assert "inf" not in "".join(long) and "nan" not in "".join(long)

    def test_intervals_at_one_place_stand_beside_each_other(self) -> None:
        lines = tuple(ChartLine(str(i), (Point(1, 5, 4, 6), Point(2, 5))) for i in range(3))
        svg = elements(line_chart_svg(LineChart("t", "x", "y", lines), "c"))
        whiskers = [line for line in svg.iter("line") if "whisker" in line.get("class")]
        (left, middle, right) = (float(line.get("x1")) for line in whiskers)
        (dot,) = {float(dot.get("cx")) for dot in svg.iter("circle")} & {middle}
        assert left < dot < right and right - left < 12
        assert all(float(line.get("y1")) > float(line.get("y2")) for line in whiskers)

    def test_those_who_do_not_see_it_are_told(self) -> None:
        svg = elements(line_chart_svg(chart((12, 11, 10, 9)), "c3"))
        assert svg.get("role") == "img"
        title, description = (svg.find(f"*[@id='{i}']") for i in svg.get("aria-labelledby").split())
        assert title.text == "Perplexity"
        assert "method 0: 12 at 2,048, 11 at 4,096" in description.text

    def test_bars(self) -> None:
        svg = elements(bar_chart_svg(BARS, "c"))
        bars = [(float(r.get("x")), float(r.get("width")), r.get("class")) for r in svg.iter("rect")]
        (x0, w0, _), (x1, w1, marked), (x2, w2, _), (_, w3, _), legend = bars
        assert w0 == pytest.approx(2 * w1, abs=0.3) and w0 == pytest.approx(4 * w2, abs=0.5) and w3 == 0
        assert x0 + w0 == pytest.approx(x1 + w1, abs=0.2) == pytest.approx(x2, abs=0.3)
        assert marked == legend[2] == "bar marked"

    @pytest.mark.parametrize("draw", [line_chart_svg, bar_chart_svg])
    def test_everything_stands_within_the_picture(self, draw: Any) -> None:  # noqa: ANN401
        long = "a very long method's name " * 6
        if draw is line_chart_svg:
            lines = tuple(ChartLine(f"{long}{i}", (Point(1, 2, 1.5, 2.5), Point(9, 3))) for i in range(9))
            svg = elements(draw(LineChart(long, long[:60], long[:40], lines, mark=8.0, mark_label="L"), "c"))
        else:
            bars = tuple(Bar(long, i - 3.0, i - 3.5, i - 2.5, note="17/30") for i in range(9))
            svg = elements(draw(BarChart(long, long[:60], bars), "c"))
        width, height = (float(n) for n in svg.get("viewBox").split()[2:])
        for text in svg.iter("text"):
            if text.get("x") is None:
                continue
            room = 7.0 * len(text.text or "")
            x = float(text.get("x"))
            left = {"start": x, "middle": x - room / 2, "end": x - room}[text.get("text-anchor")]
            assert left >= -2 and left + room <= width + 2, text.text
            assert 0 <= float(text.get("y")) <= height

    def test_markup_in_labels_is_text(self) -> None:
        evil = "<script>&\"'"
        svg = line_chart_svg(LineChart(evil, evil, evil, (ChartLine(evil, (Point(1, 1),)),)), "c")
        assert "<script" not in svg and elements(svg).find("title").text == evil
