"""What an answer quotes, looked up in the document.

Quotations are what stands in quotation marks or Markdown's block quotes, from three words on (less is a
name, or irony), and, without any marks, whatever runs on for eight words or more as the document does. They
are compared word by word (`quotation_words.py`): how lines break, what marks are used, and small or capital
letters do not matter; `exact` tells whether they do agree. `...` leaves words out: the pieces around it
have to follow one another. So may the end of a page, with what is printed there (`quotation_pages.py`). What
stands between two `'` and is not in the document may be between two apostrophes: it is not reported.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from ropewalk.documents.document import Document, Place
from ropewalk.documents.quotation_marks import Marked, marked_passages
from ropewalk.documents.quotation_pages import Pages
from ropewalk.documents.quotation_words import CodedAnswer, CodedDocument, coded, weight

MIN_MARKED_WORDS = 3
"""Words in quotation marks that make a quotation."""

MIN_UNMARKED_WORDS = 8
"""Words without marks that make a quotation where the document has them so."""

_LEFT_OUT = re.compile(r"[\[(]\s*(?:\.{3}|…)\s*[\])]|\.{3,}|…|\.(?: \.){2,}")
_QUOTE_PREFIX = re.compile(r"\n[ \t]*>[> \t]*")
_MOST_TRIED = 16  # places of one passage that are looked at more closely


@dataclass(frozen=True)
class Quotation:
    """A passage of an answer that is, or claims to be, from the document.

    Attributes:
        text: it, as it stands in the answer, without its marks (and those of a block quote's lines).
        start: where it begins in the answer.
        end: where it ends in the answer.
        place: where it stands in the document; None: nowhere.
        offset: where it begins in the document's text; None: nowhere.
        length: how many characters of the document it spans, with what it leaves out; 0: nowhere.
        exact: whether it agrees with the document in every character, but for how lines and pages break.
        n_places: how many places in the document it stands at; the first is the one reported, or the first
            that is exact. With words left out, the places of its first piece.
    """

    text: str
    start: int
    end: int
    place: Place | None
    offset: int | None
    length: int
    exact: bool
    n_places: int


def find_quotations(answer: str, document: Document) -> tuple[Quotation, ...]:
    """The quotations in an answer, in order; those in marks that are not in the document, too.

    It takes time in proportion to the document, once, and a fraction of a millisecond for each quotation.
    """
    passages = list(marked_passages(answer))
    if not passages and len(answer.split()) < MIN_UNMARKED_WORDS:
        return ()
    finder = _Finder(document, *coded(answer, document.text))
    marked = list(_marked(finder, passages))
    taken = [(one.start, one.end) for one in marked if one.place is not None]
    return tuple(sorted([*marked, *finder.unmarked(taken)], key=lambda one: (one.start, -one.end)))


def _marked(finder: _Finder, passages: list[Marked]) -> Iterator[Quotation]:
    end = -2
    for passage in passages:
        if passage.start <= end + 1:
            continue  # within the last one
        candidates = [finder.look_up(passage.start, possible_end) for possible_end in passage.ends]
        found = [one for one in candidates if one is not None and one.place is not None]
        chosen = found[-1] if found else candidates[0]
        end = passage.ends[0] if chosen is None else chosen.end
        if chosen is not None and (found or not passage.doubtful):
            yield chosen


@dataclass(frozen=True)
class _Match:
    """Words of the answer, from `first` to before `end`, that the document has from its word `place` on."""

    first: int
    end: int
    place: int


@dataclass(frozen=True)
class _Finder:
    document: Document
    answer: CodedAnswer
    source: CodedDocument
    counted: dict[str, int] = field(default_factory=dict)

    def look_up(self, start: int, end: int) -> Quotation | None:
        """The passage of the answer between two offsets; None where it is too short to be a quotation."""
        first, behind = self.answer.words_within(start, end)
        if weight(self.answer.text[start:end], behind - first) < MIN_MARKED_WORDS:
            return None
        pieces: list[tuple[int, int]] = []
        piece_start = start
        for left_out in _LEFT_OUT.finditer(self.answer.text, start, end):
            pieces.append(self.answer.words_within(piece_start, left_out.start()))
            piece_start = left_out.end()
        pieces.append(self.answer.words_within(piece_start, end))
        return self._quotation(start, end, [piece for piece in pieces if piece[0] < piece[1]])

    def unmarked(self, taken: list[tuple[int, int]]) -> Iterator[Quotation]:
        """The runs of words that the document has, too, outside of the passages that are `taken`."""
        runs = _Runs(self.answer.words, self.source.words)
        word = 0
        for start, end in [*taken, (len(self.answer.text), len(self.answer.text))]:
            first, behind = self.answer.words_within(start, end)
            limit = behind if start == len(self.answer.text) else first
            while word + MIN_UNMARKED_WORDS <= limit:
                n_words = runs.longest(word, limit)
                if n_words:
                    where = self.answer.spans[word][0], self.answer.spans[word + n_words - 1][1]
                    if weight(self.answer.text[slice(*where)], n_words) >= MIN_UNMARKED_WORDS:
                        yield self._quotation(*where, [(word, word + n_words)])
                word += max(1, n_words)
            word = max(word, behind)

    def _quotation(self, start: int, end: int, pieces: list[tuple[int, int]]) -> Quotation:
        """The passage between two offsets of the answer, of pieces that are runs of its words."""
        text = _QUOTE_PREFIX.sub("\n", self.answer.text[start:end])
        chains = self._chains(pieces) or self._over_a_page_end(pieces)
        if not chains:
            return Quotation(text, start, end, None, None, 0, exact=False, n_places=0)
        chain = next((chain for chain in chains if self._is_exact(chain)), chains[0])
        offset = self._found(chain[0])[0]
        length = self._found(chain[-1])[1] - offset
        n_places = max(1, self._n_places(self._words(*pieces[0])))
        exact = self._is_exact(chain)
        return Quotation(text, start, end, self.document.place(offset), offset, length, exact, n_places)

    def _chains(self, pieces: list[tuple[int, int]]) -> list[list[_Match]]:
        """Where the pieces follow one another: the first few places; of several pieces only the closest."""
        chains: list[list[_Match]] = []
        place = -1
        for _ in range(_MOST_TRIED):
            chain: list[_Match] = []
            for first, end in pieces:
                after = place if chain else place + 1
                place = self.source.words.find(self._words(first, end), after)
                if place < 0:
                    return _closest(chains)
                chain.append(_Match(first, end, place))
                place += end - first
            chains.append(chain)
            place = chain[0].place
        return _closest(chains)

    def _over_a_page_end(self, pieces: list[tuple[int, int]]) -> list[list[_Match]]:
        """Where a passage that nothing is left out of goes on at the next page, if it does."""
        if len(pieces) != 1:
            return []
        ((first, end),) = pieces
        turn = self._pages.find(self._words(first, end))
        if turn is None:
            return []
        middle = first + turn.n_before
        return [[_Match(first, middle, turn.place), _Match(middle, end, turn.next_place)]]

    @cached_property
    def _pages(self) -> Pages:
        return Pages(self.document, self.source)

    def _words(self, first: int, end: int) -> str:
        return self.answer.words[first:end]

    def _found(self, match: _Match) -> tuple[int, int]:
        return self.source.span(match.place, match.end - match.first)

    def _is_exact(self, chain: list[_Match]) -> bool:
        spans = self.answer.spans
        return all(
            _unbroken(self.source.text[slice(*self._found(match))])
            == _unbroken(self.answer.text[spans[match.first][0] : spans[match.end - 1][1]])
            for match in chain
        )

    def _n_places(self, words: str) -> int:
        if words not in self.counted:
            self.counted[words] = self.source.words.count(words)
        return self.counted[words]


def _closest(chains: list[list[_Match]]) -> list[list[_Match]]:
    if not chains or len(chains[0]) == 1:
        return chains
    return [min(chains, key=lambda chain: chain[-1].place + chain[-1].end - chain[-1].first - chain[0].place)]


def _unbroken(text: str) -> str:
    return " ".join(_QUOTE_PREFIX.sub(" ", text).split())


class _Runs:
    """Which runs of an answer's words a document has."""

    def __init__(self, answer: str, document: str) -> None:
        """Both as words, a character for each."""
        self._answer, self._document = answer, document
        n = MIN_UNMARKED_WORDS
        wanted = {answer[i : i + n] for i in range(len(answer) - n + 1)}
        self._places: dict[str, list[int]] = {}
        for shared in re.finditer(f"[^\0]{{{n},}}", document):
            for i in range(shared.start(), shared.end() - n + 1):
                words = document[i : i + n]
                if words in wanted:
                    places = self._places.setdefault(words, [])
                    if len(places) < _MOST_TRIED:
                        places.append(i)

    def longest(self, first: int, limit: int) -> int:
        """How many words from this one on, up to a limit, the document has; 0: too few for a quotation."""
        best = 0
        for place in self._places.get(self._answer[first : first + MIN_UNMARKED_WORDS], ()):
            best = max(best, self._common(first, place, limit))
        return best

    def _common(self, first: int, place: int, limit: int) -> int:
        """How many words agree, found by doubling and halving."""
        low, high = 0, min(limit - first, len(self._document) - place)
        step = MIN_UNMARKED_WORDS
        while low < high:
            step = min(step, high - low)
            begin, end = first + low, first + low + step
            if self._answer[begin:end] == self._document[place + low : place + low + step]:
                low, step = low + step, step * 2
            elif step == 1:
                break
            else:
                high, step = low + step - 1, max(1, step // 2)
        return low
