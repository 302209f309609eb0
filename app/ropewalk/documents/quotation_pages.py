"""Passages that run on over a page's end, past what is printed between: page numbers, running titles, notes.

Texts are words here, a character for each (`quotation_words.py`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from ropewalk.documents.document import Document
from ropewalk.documents.quotation_words import CodedDocument

MIN_WORDS = 5
"""Of a passage that is looked for so: fewer might end any page and begin the next by chance."""

MOST_BETWEEN = 24
"""Words that may stand between on either page."""


@dataclass(frozen=True)
class Turn:
    """Where a passage goes from one page to the next.

    Attributes:
        n_before: how many of its words are on the first.
        place: the word of the document it begins with.
        next_place: the word of the document it goes on with.
    """

    n_before: int
    place: int
    next_place: int


class Pages:
    """A document's pages, as words."""

    def __init__(self, document: Document, source: CodedDocument) -> None:
        """The pages of a document, and the same in code."""
        self._words = source.words
        pages: list[tuple[int, int, int]] = []
        for number, part in enumerate(document.parts[1:], 1):
            before = document.parts[number - 1]
            if part.page is not None and part.file == before.file and before.page != part.page:
                offsets = before.start, part.start, document.part_end(number)
                start, turn, end = map(source.words_before, offsets)
                pages.append((start, turn, end))
        self._turns: Sequence[tuple[int, int, int]] = pages

    def find(self, words: str) -> Turn | None:
        """The first place where a passage begins on one page and ends on the next."""
        n = len(words)
        if n < MIN_WORDS:
            return None
        reach = n + MOST_BETWEEN
        for start, turn, end in self._turns:
            tail_start = max(start, turn - reach)
            tail = self._words[tail_start:turn]
            if words[0] not in tail:
                continue
            # Of its beginnings the longest that ends this page; then what is left has to begin the next.
            n_before = _longest_beginning(words[:-1], tail)
            place = tail_start + tail.rfind(words[:n_before])
            next_place = self._words.find(words[n_before:], turn, min(end, turn + reach))
            near = turn - (place + n_before) <= MOST_BETWEEN and next_place - turn <= MOST_BETWEEN
            if next_place >= 0 and near:
                return Turn(n_before, place, next_place)
        return None


def _longest_beginning(words: str, text: str) -> int:
    """How many words from the first on a text has in a row; the first it has."""
    return bisect_left(range(2, len(words) + 1), True, key=lambda n: words[:n] not in text) + 1
