"""Heat maps in the terminal: what stands where, within 80 columns, with colour and without."""

from __future__ import annotations

import re

import pytest

from retrieval_rows import cells
from ropewalk.evaluation.heat_map import HeatMap, heat_maps, level
from ropewalk.evaluation.heat_map_text import heat_map_lines, heat_maps_text
from ropewalk.evaluation.statistics import Accuracy

GRID = {4000: {0.1: "3/3", 0.5: "2/3"}, 12000: {0.1: "0/3", 0.5: "1/3"}}
EXPECTED = """\
none                                                      6/12, 50% (25% to 75%)
LENGTH    0.1    0.5  ALL DEPTHS
 4,000  █ 3/3  ▒ 2/3  5/6 83% (44-97%)
12,000  · 0/3  ░ 1/3  1/6 17% (3-56%)

Columns: depth, 0 start, 1 end. Hits: · none, ░ to 1/3, ▒ to 2/3, ▓ more, █ all."""
"""Written by hand; the intervals are those of 6 of 12, 5 of 6 and 1 of 6 in any table of Wilson's."""


def one(grid: dict[int, dict[float, str]]) -> HeatMap:
    (found,) = heat_maps(cells(grid))
    return found


def test_the_map() -> None:
    assert heat_maps_text(heat_maps(cells(GRID))) == EXPECTED


def test_in_ascii() -> None:
    text = heat_maps_text(heat_maps(cells(GRID)), blocks=False)
    assert text.isascii()
    assert text.splitlines()[2:4] == [
        " 4,000  # 3/3  + 2/3  5/6 83% (44-97%)",
        "12,000  . 0/3  : 1/3  1/6 17% (3-56%)",
    ]


def test_colour_adds_nothing_but_colour_and_uses_the_sixteen() -> None:
    coloured = heat_maps_text(heat_maps(cells(GRID)), colour=True)
    codes = re.findall(r"\x1b\[(\d+)m", coloured)
    assert re.sub(r"\x1b\[\d+m", "", coloured) == EXPECTED
    assert codes.count("0") == len(codes) / 2 == 4
    assert all(30 <= int(code) <= 39 for code in codes if code != "0")


def test_rows_and_columns_are_in_order_whatever_the_results_are() -> None:
    (found,) = heat_maps(reversed(cells(GRID)))
    assert found.lengths == (4000, 12000) and found.depths == (0.1, 0.5)
    assert found.total == Accuracy(6, 12)
    assert found.of_depth(0.1) == Accuracy(3, 6) and found.of_length(12000) == Accuracy(1, 6)


def test_what_is_to_come_has_its_place_already() -> None:
    maps = heat_maps(cells({4000: {0.1: "1/1"}}), methods=["none", "dprope"], lengths=[8000], depths=[0.9])
    assert [found.method for found in maps] == ["none", "dprope"]
    lines = heat_maps_text(maps).splitlines()
    assert lines[2].split() == ["4,000", "█", "1/1", "-", "1/1", "100%", "(21-100%)"]
    assert lines[3].split() == ["8,000", "-", "-", "-"]
    assert lines[5].split() == ["dprope", "none", "tried"]


@pytest.mark.parametrize(
    ("hits", "trials", "expected"),
    [(0, 0, None), (0, 1, 0), (1, 1, 4), (1, 3, 1), (2, 3, 2), (3, 4, 3), (999, 1000, 3), (1, 1000, 1)],
)
def test_only_all_and_none_have_the_outermost_shades(hits: int, trials: int, expected: int | None) -> None:
    assert level(Accuracy(hits, trials)) == expected


def test_every_cell_of_a_large_map_is_shown_within_80_columns() -> None:
    depths = [i / 23 for i in range(24)]
    lengths = [1000 * 2**i for i in range(9)]
    hits = {n: {d: f"{(i * 7 + j) % 101}/100" for j, d in enumerate(depths)} for i, n in enumerate(lengths)}
    text = heat_maps_text(heat_maps(cells(hits, methods=["none", "a method " * 12])))
    assert max(len(line) for line in text.splitlines()) <= 80
    for map_text in text.split("\n\n")[:2]:
        shown = re.findall(r"[·░▒▓█] (\d+/100)\b", map_text)
        assert sorted(shown) == sorted(counts for row in hits.values() for counts in row.values())


@pytest.mark.parametrize("width", [36, 40, 60, 80, 120])
def test_any_width_is_kept(width: int) -> None:
    lines = heat_map_lines(
        one({1048576: dict.fromkeys((0.1, 0.123456, 0.9), "1234/5678"), 10: {0.5: "1/2"}}), width=width
    )
    assert max(sum(len(span.text) for span in line) for line in lines) <= width


def test_a_label_of_escapes_is_not_obeyed() -> None:
    (found,) = heat_maps(cells({1000: {0.5: "1/1"}}, methods=["x\x1b[2J\ny"]))
    assert "\x1b" not in heat_maps_text([found])
    assert heat_maps_text([found]).splitlines()[0].startswith("x[2J y")
