"""Quotations in an answer are found in the document, and what is in no document is said to be in none."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.documents.document import Document, Piece, Place, joined
from ropewalk.documents.quotations import Quotation, find_quotations

TEXT = """It was the best of times,
it was the worst of times, it was the age of wisdom, it was the docu-
ment of foolishness. “Don’t go – please,” she said; the price is $5.50 and not 6.

The **well-known** man walked — slowly — home again. In 1990–1995 she said; nothing.
山路を登りながら、こう考えた。智に働けば角が立つ。
"""
DOCUMENT = Document.of_text("book.txt", TEXT)


def one(answer: str, document: Document = DOCUMENT) -> Quotation:
    (quotation,) = find_quotations(answer, document)
    assert answer[quotation.start : quotation.end] == quotation.text or "\n" in quotation.text
    return quotation


def source(quotation: Quotation, document: Document = DOCUMENT) -> str:
    """What the document has at the quotation's place."""
    assert quotation.offset is not None
    return document.text[quotation.offset : quotation.offset + quotation.length]


@pytest.mark.parametrize(
    "marks",
    ['"{}"', "“{}”", "„{}“", "„{}”", "«{}»", "»{}«", "‹{}›", "›{}‹", "'{}'", "‘{}’", "「{}」", "『{}』"],
)
def test_every_kind_of_marks(marks: str) -> None:
    quotation = one(f"The book says {marks.format('the worst of times')}, no less.")
    assert quotation.text == "the worst of times"
    assert source(quotation) == "the worst of times"
    assert quotation.exact
    assert quotation.n_places == 1
    assert quotation.place is not None
    assert (quotation.place.file, quotation.place.page, quotation.place.line) == ("book.txt", None, 2)


@pytest.mark.parametrize(
    ("quoted", "found", "exact"),
    [
        ("It was the best of times, it was the worst", "It was the best of times,\nit was the worst", True),
        ("the best of times.", "the best of times", True),
        ("IT WAS the best", "It was the best", False),
        ("the document of foolishness", "the docu-\nment of foolishness", False),
        ("don't go - please", "Don’t go – please", False),
        ("Don’t go – please,", "Don’t go – please", True),
        ("the well-known man", "The **well-known** man", False),
        ("walked—slowly—home", "walked — slowly — home", False),
        ("in 1990-1995 she said", "In 1990–1995 she said", False),
        ("the price is $5.50", "the price is $5.50", True),
        (
            "the best of ... the age of wisdom",
            "the best of times,\nit was the worst of times, it was the age of wisdom",
            True,
        ),
        (
            "the worst […] of foolishness",
            "the worst of times, it was the age of wisdom, it was the docu-\nment of foolishness",
            True,
        ),
        ("she said… nothing", "she said; nothing", True),
        ("山路を登りながら", "山路を登りながら", True),
        ("智に働けば角が立つ", "智に働けば角が立つ", True),
    ],
)
def test_what_may_differ_and_what_is_exact(quoted: str, found: str, exact: bool) -> None:
    quotation = one(f"It says “{quoted}” there.")
    assert source(quotation) == found
    assert quotation.exact is exact
    assert quotation.text == quoted


@pytest.mark.parametrize(
    "quoted",
    [
        "the best of all times",
        "the price is $6.50",
        "the price is 5.50",
        "the age of foolishness",
        "est of times",
        "the worst ... the best of times",
        "a passage from another book",
        "山路を下りながら",
    ],
)
def test_what_is_not_in_the_document_is_reported_as_that(quoted: str) -> None:
    quotation = one(f"It says “{quoted}” there.")
    assert quotation.text == quoted
    assert (quotation.place, quotation.offset, quotation.length) == (None, None, 0)
    assert (quotation.exact, quotation.n_places) == (False, 0)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "No quotation at all.",
        "A 'scare quote' and an “apt” one, «so called».",
        "The dogs' food and the cats' milk; it's the '90s rock 'n' roll of John's.",
        'A board of 6" by 4" is what the man had.',
        'Run `print("hello there my world")` and\n```\nsay("hello there my world")\n```\n',
        "An unclosed “quotation of many words\n\nends with its paragraph, not here”.",
        "「角」と「智」",
        '"the, the"',
    ],
)
def test_what_is_no_quotation(answer: str) -> None:
    assert find_quotations(answer, DOCUMENT) == ()


def test_an_apostrophe_within_single_quotation_marks_does_not_end_them() -> None:
    document = Document.of_text("d", "We heard that the dogs’ food was cold and they ate it.")
    assert one("‘the dogs’ food was cold’", document).text == "the dogs’ food was cold"
    assert one("'the dogs' food was cold'", document).text == "the dogs' food was cold"


def test_a_block_quote_is_a_quotation_and_who_said_it_is_not() -> None:
    answer = (
        "As it says:\n\n> the well-known man\n> walked slowly\n>\n> it was never said\n> — A. Writer\n\nSo."
    )
    found, lost = find_quotations(answer, DOCUMENT)
    assert found.text == "the well-known man\nwalked slowly"
    assert source(found) == "The **well-known** man walked — slowly"
    assert found.place is not None
    assert found.place.line == 5
    assert (lost.text, lost.place) == ("it was never said", None)


def test_a_long_run_without_marks_is_a_quotation() -> None:
    answer = "We learn that it was the age of wisdom, it was the document of foolishness, more or less."
    quotation = one(answer)
    assert quotation.text == "it was the age of wisdom, it was the document of foolishness"
    assert source(quotation) == "it was the age of wisdom, it was the docu-\nment of foolishness"
    assert find_quotations("We learn that it was the age of wisdom, no less.", DOCUMENT) == ()


def test_what_is_true_within_a_false_quotation_is_told_too() -> None:
    answer = "“it was the worst of times, it was the age of wisdom and of fun”"
    whole, run = find_quotations(answer, DOCUMENT)
    assert (whole.place, run.place is not None) == (None, True)
    assert run.text == "it was the worst of times, it was the age of wisdom"


def test_the_first_place_is_told_and_how_many_there_are() -> None:
    document = Document.of_text(
        "d", "One two three. ONE TWO THREE!\nOne, two, three. Another one: two three four.\n" * 2
    )
    quotation = one('"one two three"', document)
    assert (quotation.offset, quotation.n_places, quotation.exact) == (0, 8, False)
    quotation = one('"ONE TWO THREE"', document)
    assert (quotation.offset, quotation.exact) == (15, True)


def test_words_left_out_are_looked_for_nearby() -> None:
    document = Document.of_text(
        "d", "the king had " + "a long story " * 50 + "the king was dead and the queen mourned"
    )
    quotation = one('"the king ... the queen mourned"', document)
    assert source(quotation, document) == "the king was dead and the queen mourned"


def test_pages_and_sections_are_told() -> None:
    pieces = [
        Piece("one two three\nfour five six\n", 7),
        Piece("seven eight\nnine ten eleven\n", 9, section="IX"),
    ]
    document = joined("b.pdf", (("b.pdf", False, piece) for piece in pieces))
    place = one("«nine ten eleven»", document).place
    assert place is not None
    assert (place.page, place.line, place.section) == (9, 2, "IX")
    place = one("«six seven eight»", document).place
    assert place is not None
    assert (place.page, place.line) == (7, 2)


PAGES = joined(
    "b.pdf",
    [
        ("b.pdf", False, Piece("Of ropes and knots, at length.\nThe quick brown fox jumps\n12\n", 12)),
        ("b.pdf", False, Piece("Chapter One: Foxes\nover the lazy dog today. A rope is long.\n", 13)),
    ],
)


def test_a_quotation_may_run_on_over_a_page_end() -> None:
    quotation = one('It says "The quick brown fox jumps over the lazy dog today."', PAGES)
    assert quotation.place == Place("b.pdf", 12, 2)
    assert quotation.exact
    assert source(quotation, PAGES).startswith("The quick brown fox jumps\n12\nChapter")
    assert source(quotation, PAGES).endswith("dog today")
    assert one('It says "Fox jumps over the lazy dog."', PAGES).place == Place("b.pdf", 12, 2)


@pytest.mark.parametrize(
    "quoted",
    [
        "The quick brown fox jumps under the lazy dog",
        "The quick brown foxes jump over the lazy dog",
        "over the lazy dog The quick brown fox",
        "fox jumps over the dog",
    ],
)
def test_over_a_page_end_nothing_else_may_differ(quoted: str) -> None:
    assert one(f'It says "{quoted}".', PAGES).place is None


@pytest.mark.parametrize(
    ("quoted", "text", "found"),
    [
        ("हिन्दी की किताब में लिखा है", "हिन्दी की किताब में लिखा है", True),
        ("हिन्दी की किताब में", "हिन्दी का किताब मे", False),
        ("தமிழ் நூல் ஒன்று", "தமிழ் நூல் ஒன்று", True),
        ("ที่นี่มีคนอยู่", "ที่นี่มีคนอยู่", True),
        ("ที่นี่มีคนอยู่", "ทานามาคนอยา", False),
        ("مرحبا بكم في البيت", "مَرْحَبًا بِكُم في البيت", True),
        ("בראשית ברא אלהים", "בְּרֵאשִׁית בָּרָא אֱלֹהִים", True),
        ("か\u3099くせいのほんた\u3099", "がくせいのほんだ", True),
    ],
)
def test_vowel_signs_count_and_points_do_not(quoted: str, text: str, found: bool) -> None:
    assert (one(f'"{quoted}"', Document.of_text("a.txt", text)).place is not None) == found


@pytest.mark.parametrize("quoted", ["10⁶ ropes of hemp", "10^6 ropes of hemp"])
@pytest.mark.parametrize("text", ["10^6 ropes of hemp", "106 ropes of hemp"])
def test_powers_are_found_however_they_are_written(quoted: str, text: str) -> None:
    quotation = one(f'"{quoted}"', Document.of_text("a.txt", text))
    assert quotation.offset == 0
    assert quotation.exact is (quoted == text)
    assert one(f'"{quoted}"', Document.of_text("a.txt", text.replace("6", "7"))).place is None


def test_letters_put_together_otherwise_are_the_same() -> None:
    document = Document.of_text("d", "Un cafe\u0301 très serré, e\ufb03cace.")
    assert source(one('"un café très serré, efficace"', document), document).startswith("Un cafe\u0301")


WORDS = [a + b + c for a in "bdf" for b in "aeiou" for c in ("n", "r", "st", "")]


@given(st.integers(0, 10_000), st.integers(3, 30), st.randoms(use_true_random=False))
def test_a_mangled_passage_is_found_where_it_was_taken(start: int, length: int, rng: random.Random) -> None:
    words = [f"{rng.choice(WORDS)}{i}" for i in range(300)]
    start %= len(words) - length
    text = "".join(word + rng.choice([" ", "\n", ", ", " – ", ".\n\n", " “", "” "]) for word in words)
    taken = [rng.choice([word.upper(), word.title(), word]) for word in words[start : start + length]]
    quotation = one(
        "See “" + "".join(word + rng.choice([" ", "\n", "; ", "—"]) for word in taken) + "”!",
        Document.of_text("d", text),
    )
    assert quotation.offset == text.index(words[start])
    assert quotation.offset + quotation.length == text.index(words[start + length - 1]) + len(
        words[start + length - 1]
    )


def holds(words: Sequence[str], run: Sequence[str]) -> bool:
    return f" {' '.join(run)} " in f" {' '.join(words)} "


@given(st.lists(st.sampled_from("abc"), max_size=120), st.lists(st.sampled_from("abcd"), max_size=60))
def test_runs_without_marks_are_all_that_the_document_has(document: list[str], answer: list[str]) -> None:
    text = " ".join(answer)
    found = find_quotations(text, Document.of_text("d", " ".join(document)))
    covered: set[int] = set()
    for quotation in found:
        run = quotation.text.split()
        assert len(run) >= 8
        assert holds(document, run)
        first = len(text[: quotation.start].split())
        assert not covered & set(range(first, first + len(run)))
        covered |= set(range(first, first + len(run)))
        if first + len(run) < len(answer):
            assert not holds(document, answer[first : first + len(run) + 1])
    for i in range(len(answer) - 7):
        assert i in covered or not holds(document, answer[i : i + 8])


LONG = 200_000


HARD_ANSWERS = {
    "words": "a " * 3000,
    "quotations": '"a a a" ' * 2000,
    "openings": "“" * LONG,
    "straight openings": ' "a' * 100_000,
    "apostrophes": " 'a" * 100_000,
    "closings": "‘a a a" + "a’ " * 100_000,
    "block quote": "> a\n" * 100_000,
    "block quotes": "> a\n\n" * 50_000,
    "words left out": '"' + "a ... " * 10_000 + 'a"',
    "code": "`" * (LONG + 1),
    "nested block quote": ">" * LONG,
    "empty block quote": "\n>" * LONG,
    "nothing but left out": "…" * LONG,
    "compound": "a-" * LONG,
}


@pytest.mark.parametrize("kind", HARD_ANSWERS)
def test_no_answer_takes_more_time_than_its_length_and_the_document_ask_for(kind: str) -> None:
    # Anything quadratic in these would be out of all proportion: the test would not end.
    document = Document.of_text("d", "a " * LONG)
    for quotation in find_quotations(HARD_ANSWERS[kind], document):
        assert (quotation.place is None) == (quotation.offset is None)


def test_a_long_document_gives_the_offset_of_its_end() -> None:
    text = "".join(f"word{i} " for i in range(LONG)) + "the very last words"
    document = Document.of_text("d", text)
    assert one('"the very last words"', document).offset == text.index("the very last")
    assert one('"word77777 word77778 word77779"', document).offset == text.index("word77777 ")
