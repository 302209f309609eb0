r"""Texts as words, so that a passage is found however its lines break and its marks are set.

A word is a run of letters and digits, in small letters and without its hyphens, also where it breaks at one
at a line's end: `Docu-\nment` is `document`, `well-known` is `wellknown`. Nor has it the mark of a power, as
PDFs do not tell what is raised: `10⁶`, `10^6` and `106` are one word. Vowel signs are letters; the points of
Hebrew and Arabic are not. Each character is a word of its own in scripts that put
no spaces between words, and so are the signs that change what numbers mean. All else (quotation marks,
dashes, commas, Markdown's stars) is no part of any word.

Words become single characters, one for each word of the answer and another for all that are not in it:
looking a passage up is then `str.find`, and the text of a long book takes a fraction of its size.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from itertools import accumulate, islice

_UNSPACED = (  # Thai to Myanmar, Khmer, Chinese, Japanese
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u312f\u31a0-\ua4cf\uf900-\ufaff\U00020000-\U0003ffff"
)
_SIGN_RANGES = ((0x0900, 0x1100), (0x1700, 0x1C00), (0x3099, 0x309B), (0xA800, 0xAC00))
_VOWEL_SIGNS = "".join(  # to Python no letters: of India's scripts, and those from Tibet to Java
    chr(code)
    for first, end in _SIGN_RANGES
    for code in range(first, end)
    if unicodedata.category(chr(code)) in ("Mn", "Mc")
)
_LETTERS = rf"[^\W_{_UNSPACED}]+(?:[{_VOWEL_SIGNS}]+[^\W_{_UNSPACED}]*)*"
_HYPHENS = "\\-\u2010\u2011\u2013\u00ad"
_POINTS = (  # Hebrew, Arabic
    "\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e4"
    "\u06e7\u06e8\u06ea-\u06ed"
)
_WITHIN = f"\u0300-\u036f{_POINTS}\u200b-\u200d\u2060"  # accents on their own, and what nobody sees
_JOINT = rf"(?:[{_HYPHENS}](?:[ \t]*\n[ \t]*)?|\^|[{_WITHIN}]+)"
_SIGNS = r"[+=<≤≥≠±×÷$€£¥%§]|(?<!\w)[-−](?=\.?\d)"
_WORD = re.compile(rf"{_LETTERS}(?:{_JOINT}{_LETTERS})*[{_WITHIN}]*|[^\W_][{_VOWEL_SIGNS}]*|{_SIGNS}")
_NOT_SPOKEN = re.compile(rf"[\s\^{_HYPHENS}{_WITHIN}]+")
_IS_UNSPACED = re.compile(rf"(?=[{_UNSPACED}])[^\W_]")

_BLOCK = 1 << 13
_BLOCKS_KEPT = 64
_BLOCK_END = re.compile(rf"(?<![{_HYPHENS}\s])\s")

_NOT_IN_ANSWER = "\0"
_NOT_IN_DOCUMENT = chr(sys.maxunicode)


def _spoken(word: str) -> str:
    """A word as it is compared."""
    if word.isascii() and "-" not in word and "^" not in word:
        return word.lower()
    if len(word) == 1:
        return "-" if word == "−" else unicodedata.normalize("NFKC", word).casefold()
    composed = unicodedata.normalize("NFKC", unicodedata.normalize("NFC", word)).casefold()
    return _NOT_SPOKEN.sub("", composed) or word


class _Code(dict[str, str]):
    """Words as they stand in a text -> the character of each; filled as words are met."""

    def __init__(self, characters: dict[str, str], *, learns: bool) -> None:
        super().__init__()
        self._characters = characters
        self._learns = learns

    def __missing__(self, word: str) -> str:
        spoken = _spoken(word)
        character = self._characters.get(spoken)
        if character is None:
            character = _NOT_IN_ANSWER
            if self._learns and len(self._characters) < sys.maxunicode - 1:
                character = self._characters[spoken] = chr(1 + len(self._characters))
            elif self._learns:
                character = _NOT_IN_DOCUMENT  # a million different words: no model's answer
        self[word] = character
        return character


@dataclass(frozen=True)
class CodedAnswer:
    """An answer's words.

    Attributes:
        text: the answer.
        words: a character for each word.
        spans: where each word starts and ends in the text.
    """

    text: str
    words: str
    spans: tuple[tuple[int, int], ...]

    def words_within(self, start: int, end: int) -> tuple[int, int]:
        """Which words stand between two offsets: the first's number, and the number behind the last's."""
        first = bisect_left(self.spans, (start, start))
        return first, max(first, bisect_right(self.spans, end, key=lambda span: span[1]))


@dataclass(frozen=True)
class CodedDocument:
    """A document's words.

    Attributes:
        text: its text.
        words: a character for each word.
    """

    text: str
    words: str
    _block_starts: tuple[int, ...]
    _words_before: tuple[int, ...]
    _spans: dict[int, list[tuple[int, int]]] = field(default_factory=dict)  # of the blocks last asked for

    def words_before(self, offset: int) -> int:
        """How many words begin before an offset of the text."""
        block = bisect_right(self._block_starts, offset) - 1
        if block < 0:
            return 0
        within = _WORD.finditer(self.text, self._block_starts[block], offset)
        return self._words_before[block] + sum(1 for _ in within)

    def span(self, first: int, n_words: int) -> tuple[int, int]:
        """Where a run of words starts and ends in the text."""
        return self._word_span(first)[0], self._word_span(first + n_words - 1)[1]

    def _word_span(self, number: int) -> tuple[int, int]:
        block = bisect_right(self._words_before, number) - 1
        if block not in self._spans:
            if len(self._spans) >= _BLOCKS_KEPT:
                self._spans.clear()
            until = self._words_before[block + 1] if block + 1 < len(self._words_before) else len(self.words)
            matches = _WORD.finditer(self.text, self._block_starts[block])
            self._spans[block] = [
                match.span() for match in islice(matches, until - self._words_before[block])
            ]
        return self._spans[block][number - self._words_before[block]]


def coded(answer: str, document: str) -> tuple[CodedAnswer, CodedDocument]:
    """An answer and a document in the code of the answer's words."""
    characters: dict[str, str] = {}
    code = _Code(characters, learns=True)
    matches = list(_WORD.finditer(answer))
    words = "".join(code[match.group()] for match in matches)
    spans = tuple(match.span() for match in matches)
    return CodedAnswer(answer, words, spans), _coded_document(document, _Code(characters, learns=False))


def _coded_document(text: str, code: _Code) -> CodedDocument:
    starts, words = [], []
    start = 0
    while start < len(text):
        end = _block_end(text, start)
        starts.append(start)
        words.append("".join(map(code.__getitem__, _WORD.findall(text, start, end))))
        start = end
    before = (0, *accumulate(map(len, words)))[: len(starts)]
    return CodedDocument(text, "".join(words), tuple(starts), before)


def _block_end(text: str, start: int) -> int:
    """Where a block ends that begins there: at a space, not within a word."""
    end = start + _BLOCK
    if end >= len(text):
        return len(text)
    found = _BLOCK_END.search(text, end, end + _BLOCK)
    return found.start() if found else min(len(text), end + _BLOCK)


def weight(text: str, n_words: int) -> float:
    """How many words a passage is worth: characters of scripts without spaces count half."""
    return n_words - len(_IS_UNSPACED.findall(text)) / 2
