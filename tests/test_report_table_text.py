"""Tables as text: at most 80 columns, whatever is in them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from ropewalk.evaluation.report_page import Table
from ropewalk.evaluation.report_table_text import folded, table_text
from ropewalk.wording.terminal import without_control


def test_a_table() -> None:
    table = Table(
        "t", ("METHOD", "HITS", "SAID"), (("none", "1/2", "a"), ("yarn x", "12/12", "")), frozenset({1})
    )
    assert table_text(table).splitlines() == [
        "METHOD   HITS  SAID",
        "none      1/2  a",
        "yarn x  12/12",
    ]


def test_the_last_column_is_folded() -> None:
    table = Table("t", ("A", "B"), (("x" * 20, "some words " * 12),))
    lines = table_text(table).splitlines()
    assert len(lines) == 4 and all(line.startswith(" " * 22) for line in lines[2:])
    assert " ".join(" ".join(line[22:] for line in lines[1:]).split()) == ("some words " * 12).strip()


def test_wide_characters_take_two_columns() -> None:
    table = Table("t", ("A", "B"), (("長い", "x"), ("ab", "文字" * 60)))
    lines = table_text(table).splitlines()
    assert lines[:3] == ["A     B", "長い  x", "ab    " + "文字" * 18 + "文"]
    assert "".join(line[6:] for line in lines[2:]).replace(" ", "") == "文字" * 60


@given(
    st.integers(1, 6).flatmap(
        lambda n: st.tuples(
            st.lists(st.text(max_size=30), min_size=n, max_size=n),
            st.lists(st.lists(st.text(max_size=120), min_size=n, max_size=n), min_size=1, max_size=4),
        )
    )
)
def test_no_line_is_too_long_and_no_character_is_obeyed(content: tuple[list[str], list[list[str]]]) -> None:
    head, rows = content
    text = table_text(Table("t", tuple(head), tuple(map(tuple, rows)), frozenset({0})))
    assert all(cell_len(line) <= 80 for line in text.split("\n"))
    assert "\x1b" not in text and "\x00" not in text


@given(st.text(max_size=300))
def test_paragraphs_keep_their_words(text: str) -> None:
    lines = folded(text).split("\n")
    assert all(cell_len(line) <= 80 for line in lines)
    wanted = "".join(without_control(text).split())
    assert "".join("".join(lines).split()) == wanted


def test_no_cell_turns_the_direction_of_others() -> None:
    table = Table("t", ("A", "B"), (("\u202edlrow\u2067", "שלום\x1b[31m"),))
    assert table_text(table).splitlines()[1] == "dlrow  שלום[31m", "and what is written so stays"
