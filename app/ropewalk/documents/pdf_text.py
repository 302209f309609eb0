r"""PDFium's text of PDF pages, made good to read and to look things up in.

What is changed, and nothing else: `\r\n` becomes `\n`, and lines lose the spaces at their ends; ligatures
become their letters, the many kinds of spaces one, and characters that nobody sees go; what a font does not
tell the letter of is `\ufffd`; letters that were put
together of a base and an accent become one (NFC). The order of the lines is PDFium's, headers and footers
stay where they are.

A word that a line end cuts in two is joined again, as a reader joins it: with PDFium's mark between its
halves the hyphen stays only where it would be there without the line end, too. That is decided by how the
document itself writes the word elsewhere, or each half as a word, else by how it looks: `exam-/ple` is
"example", `well-/known`, `Kullback-/Leibler` and `1990-/1995` keep theirs. PDFium puts the second
half on the line of the first.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable

_BREAK = "\x02"  # PDFium's for a hyphen at a line's end, with the line end gone
_LIGATURES = dict(zip(range(0xFB00, 0xFB07), ("ff", "fi", "fl", "ffi", "ffl", "st", "st"), strict=True))
_SPACES = "\t\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f"
_UNSEEN = [0, 11, 12, 13, *range(127, 160), 0x200B, 0x2060, 0xFEFF, 0xFFFE, 0xFFFF]
_UNKNOWN = "\ufffd"
_NOT_LETTERS = [
    *range(1, 9),
    *range(14, 32),
]  # glyphs' numbers, where a font does not say which letters they are
_PRIVATE = re.compile("[\ue000-\uf8ff]")  # as well, or bullets

_CLEAN: dict[int, str | None] = {
    **dict.fromkeys(_UNSEEN),
    **dict.fromkeys(_NOT_LETTERS, _UNKNOWN),
    **_LIGATURES,
    **dict.fromkeys(map(ord, _SPACES), " "),
    ord(_BREAK): _BREAK,
    0xAD: "-",  # a soft hyphen in a PDF is a drawn one
}

_LINE_END = re.compile(r"(?<! ) +\n")
_CUT_WORD = re.compile(rf"\w*(?:{_BREAK}\w*)+")
_WORD = re.compile(r"\w+(?:-\w+)*")
_HALF = re.compile(r"\w*")
_LONGEST_HALF = 64
_SHORTEST_WORD = 3  # that a compound is taken to be of: `in` and `to` are halves of too much else


def clean_pages(pages: Iterable[str]) -> tuple[str, ...]:
    """The text of pages as PDFium gives it -> as people read it, a page for a page."""
    cleaned = tuple(_clean(page) for page in pages)
    if not any(_BREAK in page for page in cleaned):
        return cleaned
    words = {word for page in cleaned for word in _WORD.findall(_CUT_WORD.sub(" ", page.casefold()))}
    return tuple(_join_cut_words(page, words) for page in cleaned)


def share_unknown(page: str) -> float:
    """Which share of a clean page's characters are no letters, as its fonts do not say which they are."""
    return (page.count(_UNKNOWN) + len(_PRIVATE.findall(page))) / max(1, len(page))


def _clean(page: str) -> str:
    page = page.replace("\r\n", "\n").translate(_CLEAN)
    page = unicodedata.normalize("NFC", page)
    return _LINE_END.sub("\n", page).rstrip()


def _join_cut_words(page: str, words: set[str]) -> str:
    """The page with its cut words whole; `words`: all of the document's, in small letters."""
    pieces = page.split(_BREAK)
    joined = [pieces[0]]
    for before, after in itertools.pairwise(pieces):
        left, right = _first_word(before[: -_LONGEST_HALF - 1 : -1])[::-1], _first_word(after[:_LONGEST_HALF])
        joined.append("-" + after if _keeps_hyphen(left, right, words) else after)
    return "".join(joined)


def _first_word(text: str) -> str:
    found = _HALF.match(text)
    return found.group() if found else ""


def _keeps_hyphen(left: str, right: str, words: set[str]) -> bool:
    if not left or not right:
        return True
    if (left + right).casefold() in words:
        return False
    if f"{left}-{right}".casefold() in words:
        return True
    if not (left[-1].isalpha() and right[0].isalpha()):
        return True
    if right[0].isupper() and not left.isupper():
        return True
    # Two words of the document that it never writes as one: `well-/known`.
    return min(len(left), len(right)) >= _SHORTEST_WORD and {left.casefold(), right.casefold()} <= words
