"""Ranges of pages and lines: how they are written, and what they leave of a document."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.documents.document import Document, DocumentError, Piece, joined
from ropewalk.documents.selection import (
    Selection,
    SelectionError,
    Unit,
    fitting_range,
    parse_selection,
    select,
)

LINES = [f"line {i}" for i in range(1, 13)]


def book() -> Document:
    """Four pages of three lines each; page 3 is blank, so the last is 5."""
    pieces = [
        Piece("".join(f"{line}\n" for line in LINES[3 * i : 3 * i + 3]), page=page)
        for i, page in enumerate((1, 2, 4, 5))
    ]
    return joined("book.pdf", (("book.pdf", False, piece) for piece in pieces), ["An old notice."])


def chapters() -> Document:
    """Two parts without pages, whose lines are counted through."""
    pieces = [
        Piece("".join(f"{line}\n" for line in LINES[:5]), first_line=1, section="I"),
        Piece("\n".join(LINES[5:]), first_line=6, section="II"),
    ]
    return joined("book.epub", (("book.epub", False, piece) for piece in pieces))


@pytest.mark.parametrize(
    ("text", "ranges", "written"),
    [
        ("1-50", ((1, 50),), "1-50"),
        ("7", ((7, 7),), "7"),
        ("1-50,70,90-", ((1, 50), (70, 70), (90, None)), "1-50,70,90-"),
        (" 3 - 5 , 1 ", ((1, 1), (3, 5)), "1,3-5"),
        ("-4", ((1, 4),), "1-4"),
        ("5-9,1-4", ((1, 9),), "1-9"),
        ("1–3", ((1, 3),), "1-3"),
        ("4-,6,9-", ((4, None),), "4-"),
    ],
)
def test_a_selection_as_written(text: str, ranges: tuple[tuple[int, int | None], ...], written: str) -> None:
    selection = parse_selection(text, "pages")
    assert selection == Selection("pages", ranges)
    assert str(selection) == written


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "names no lines; write them as 1-50"),
        ("-", "names no lines"),
        ("1,,2", "names no lines"),
        ("all", "names no lines"),
        ("1-2-3", "names no lines"),
        ("1 2", "names no lines"),
        ("1.5", "names no lines"),
        ("٣", "names no lines"),
        ("9" * 5000, "names no lines"),
        ("0-5", "counted from 1"),
        ("1-0", "counted from 1"),
        ("9-3", "runs backwards; write 3-9"),
    ],
)
def test_what_is_no_selection_is_said_to_be_none(text: str, word: str) -> None:
    with pytest.raises(SelectionError, match=word):
        parse_selection(text, "lines")


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 8)), min_size=1, max_size=6))
def test_what_is_selected_is_what_any_of_the_ranges_holds(ranges: list[tuple[int, int]]) -> None:
    selection = parse_selection(",".join(f"{first}-{first + more}" for first, more in ranges), "pages")
    expected = {number for first, more in ranges for number in range(first, first + more + 1)}
    assert {number for number in range(1, 50) if number in selection} == expected
    assert parse_selection(str(selection), "pages") == selection


def test_pages_are_taken_with_their_numbers() -> None:
    part = select(book(), parse_selection("2-3,5", "pages"))
    assert part.text == "line 4\nline 5\nline 6\nline 10\nline 11\nline 12\n"
    assert [(p.page, p.first_line) for p in part.parts] == [(2, 1), (5, 1)]
    place = part.place(part.text.index("line 11"))
    assert (place.page, place.line) == (5, 2)
    assert part.notices == ("An old notice.", "book.pdf: only pages 2-3, 5 are read, 2 of 4 pages with text.")


def test_lines_are_taken_with_their_numbers_and_sections() -> None:
    part = select(chapters(), parse_selection("2,4-7,12", "lines"))
    assert part.text == "line 2\nline 4\nline 5\nline 6\nline 7\nline 12"
    for number in (2, 4, 5, 6, 7, 12):
        place = part.place(part.text.index(f"line {number}"))
        assert (place.line, place.section) == (number, "I" if number <= 5 else "II")
    assert part.notices == ("book.epub: only lines 2, 4-7, 12 are read, 6 of 12 lines.",)


def test_one_page_is_one_page() -> None:
    part = select(book(), parse_selection("4", "pages"))
    assert part.text == "line 7\nline 8\nline 9\n"
    assert part.notices[-1] == "book.pdf: only page 4 is read, 1 of 4 pages with text."


def test_a_selection_of_all_changes_nothing() -> None:
    assert select(book(), parse_selection("1-99", "pages")) == book()
    assert select(chapters(), parse_selection("1-", "lines")) == chapters()


@pytest.mark.parametrize(
    ("document", "text", "unit", "message"),
    [
        (book(), "9-", "pages", "book.pdf has no text on pages 9-: pages 1 to 5 are there."),
        (book(), "3", "pages", "book.pdf has no text on page 3: pages 1 to 5 are there."),
        (chapters(), "100", "lines", "book.epub has no text on line 100: lines 1 to 12 are there."),
        (chapters(), "1", "pages", "book.epub has no pages but 12 lines; choose lines instead."),
        (book(), "1", "lines", "book.pdf has pages, 1 to 5, with lines of their own; choose pages instead."),
        (Document.of_text("t", "a\n \nb"), "2", "lines", "t has no text on line 2: lines 1 to 3 are there."),
    ],
)
def test_where_nothing_is_selected_it_says_what_there_is(
    document: Document, text: str, unit: Unit, message: str
) -> None:
    with pytest.raises(DocumentError) as caught:
        select(document, parse_selection(text, unit))
    assert str(caught.value) == message


def test_nothing_is_taken_from_several_files() -> None:
    both = joined(
        "2 files", [("a", True, Piece("a:\n")), ("a", False, Piece("x\n")), ("b", False, Piece("y"))]
    )
    with pytest.raises(DocumentError, match="one file"):
        select(both, parse_selection("1", "lines"))
    assert fitting_range(both, 100) is None


@given(
    st.integers(-1, 120),
    st.sampled_from([book(), chapters(), Document.of_text("t", "\n\nx\n\n"), Document.of_text("t", "x")]),
)
def test_the_range_that_fits_is_the_largest_that_does(n_characters: int, document: Document) -> None:
    fitting = fitting_range(document, n_characters)
    units: Unit = "pages" if document.parts[0].page else "lines"
    sizes = {}
    for last in range(1, 13):
        try:
            sizes[last] = len(select(document, Selection(units, ((1, last),))).text)
        except DocumentError:
            sizes[last] = 0
    if fitting is None:
        assert n_characters < len(document.text.partition("\n")[0]) + 1 or sizes[1] > n_characters
        return
    assert fitting[0] == units
    (chosen,) = parse_selection(fitting[1], fitting[0]).ranges
    assert chosen[0] == 1
    chosen_last = chosen[1]
    assert chosen_last is not None
    assert sizes[chosen_last] <= n_characters
    assert all(
        sizes[more] in (sizes[chosen_last], 0) or sizes[more] > n_characters
        for more in range(chosen_last + 1, 13)
    )


def test_a_line_of_the_file_may_be_several_of_its_text() -> None:
    pieces = [Piece("one\n", first_line=1), Piece("two\n", first_line=1), Piece("three\n", first_line=4)]
    document = joined("page.html", (("page.html", False, piece) for piece in pieces))
    assert select(document, parse_selection("1", "lines")).text == "one\ntwo\n"
    assert select(document, parse_selection("1", "lines")).notices[-1].endswith("1 of 2 lines.")
    assert fitting_range(document, 7) is None
    assert fitting_range(document, 8) == ("lines", "1")
    assert fitting_range(document, 99) == ("lines", "1-4")


def test_a_long_document_is_selected_from_in_proportion() -> None:
    document = Document.of_text("t", "a line of it\n" * 100_000)
    part = select(document, parse_selection("2-99999", "lines"))
    assert part.place(len(part.text) - 2).line == 99_999
    assert len(part.parts) == 1
