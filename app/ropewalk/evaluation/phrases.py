"""Whether a text says a phrase: as whole words where words stand apart, in capitals or not."""

from __future__ import annotations

import re
import unicodedata

_UNSPACED = (
    # Thai, Lao; Burmese; Khmer; kana; CJK ideographs; Hangul, whose particles are joined to words
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
    r"\U00020000-\U0003ffff"
)
_IS_UNSPACED = re.compile(f"[{_UNSPACED}]")
_SPACED_LETTER = rf"[^\W{_UNSPACED}]"


def says(text: str, phrase: str) -> bool:
    """Whether a text says a phrase, however capitals, spaces and accents are written."""
    return re.search(_pattern(_folded(phrase)), _folded(text)) is not None


def find_phrase(text: str, phrase: str) -> int | None:
    """Where a text says a phrase first, in capitals or not, as whole words with any space between them."""
    spelt = dict.fromkeys((phrase, *(unicodedata.normalize(form, phrase) for form in ("NFC", "NFD"))))
    found = re.search("|".join(map(_pattern, spelt)), text, re.IGNORECASE)
    return None if found is None else found.start()


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def _pattern(phrase: str) -> str:
    """A phrase's words with any space between; no letter goes on from it but of a script without spaces."""
    words = phrase.split()
    if not words:
        return r"(?!)"
    before = "" if _IS_UNSPACED.match(words[0][0]) else rf"(?<!{_SPACED_LETTER})"
    after = "" if _IS_UNSPACED.match(words[-1][-1]) else rf"(?!{_SPACED_LETTER})"
    return before + r"\s+".join(map(re.escape, words)) + after
