"""Pictures by matplotlib: what stands in them, and that equal ones are equal byte for byte."""

from __future__ import annotations

import re
import struct

import pytest

from retrieval_rows import cells
from ropewalk.evaluation.heat_map import heat_maps
from ropewalk.evaluation.heat_map_picture import draw_heat_maps
from ropewalk.evaluation.report_chart import Bar, BarChart, ChartLine, LineChart, Point
from ropewalk.evaluation.report_picture import draw_charts
from ropewalk.evaluation.report_style import LIGHT

MAPS = heat_maps(
    cells({4000: {0.1: "3/3", 0.9: "2/3"}, 12000: {0.1: "0/3"}}, ["none", "dprope threshold=0.05"])
)
CURVES = LineChart(
    "Perplexity",
    "window (tokens)",
    "perplexity",
    tuple(ChartLine(f"m{i}", (Point(1000, 12, 11, 13), Point(9000, 40.0 + i))) for i in range(8)),
    log_y=True,
    mark=8192,
    mark_label="train length",
)
BARS = BarChart("Layers", "nats", (Bar("layer 0", -1.5, marked=True), Bar("layer 1", 0.25)), "windowed")


def texts(svg: bytes) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg.decode()) + re.findall(
        r"<tspan[^>]*>([^<]*)</tspan>", svg.decode()
    )


def test_a_heat_map_has_counts_shares_intervals_and_notes() -> None:
    svg = draw_heat_maps(MAPS, "svg", title="Passkey test: model.gguf", notes=["greedy decoding"])
    found = texts(svg)
    for words in ("Passkey test: model.gguf", "none: 5/9, 56% (27% to 81%)", "greedy decoding", "all hit"):
        assert words in found, words
    assert [found.count(counts) for counts in ("3/3", "2/3", "0/3", "–")] == [2, 2, 2, 2]
    assert found.count("5/6, 83% (44% to 97%)") == 2 and found.count("12,000") == 2
    assert {LIGHT["h4"], LIGHT["h2"], LIGHT["h0"]} <= set(re.findall(r"#[0-9a-f]{6}", svg.decode()))


def test_charts_have_their_labels_and_values() -> None:
    found = texts(draw_charts([CURVES, BARS], "svg", title="t: model.gguf", notes=["a note"]))
    for words in (
        "Perplexity",
        "m7",
        "train length",
        "1,000",
        "9,000",
        "-1.50",
        "0.250",
        "layer 1",
        "a note",
    ):
        assert words in found, words
    assert "Layers (hatched: windowed)" in found


@pytest.mark.parametrize(
    "draw",
    [lambda: draw_heat_maps(MAPS, "svg", title="t"), lambda: draw_charts([CURVES, BARS], "svg", title="t")],
    ids=["maps", "charts"],
)
def test_equal_pictures_are_equal_byte_for_byte(draw: object) -> None:
    assert callable(draw)
    first, second = draw(), draw()
    assert first == second
    assert b"<dc:date>" not in first


def test_a_png_is_as_large_as_its_cells_need() -> None:
    def size(content: bytes) -> tuple[int, int]:
        assert content[:8] == b"\x89PNG\r\n\x1a\n"
        width, height = struct.unpack(">II", content[16:24])
        return width, height

    small = size(draw_heat_maps(MAPS[:1], "png", title="t"))
    large = heat_maps(cells({1000 * n: {d / 20: "1/2" for d in range(21)} for n in range(1, 13)}))
    width, height = size(draw_heat_maps(large, "png", title="t"))
    assert 600 <= small[0] <= 900
    assert width / 21 > 45 and height / 12 > 30, "room for the counts in every cell"


def test_names_are_drawn_as_they_are_and_no_formulas(recwarn: pytest.WarningsRecorder) -> None:
    maps = heat_maps(cells({4000: {0.1: "3/3"}}, ["a$^$b"]))
    for picture_format in ("png", "svg"):
        title = "Passkey test: mo$^$del 模型.gguf"
        picture = draw_heat_maps(maps, picture_format, title=title, notes=["$_$", "\x1b[31m"])
        charts = [LineChart("$_$", "x", "y", (ChartLine("$^$", (Point(1, 2),)),))]
        charted = draw_charts(charts, picture_format, title=title, notes=["\x1b[31m"])
    assert title in texts(picture) and title in texts(charted)
    assert "a$^$b: 3/3, 100% (44% to 100%)" in texts(picture) and b"\x1b" not in picture + charted
    assert not recwarn.list, "a letter that the font lacks is no news"
