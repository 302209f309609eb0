"""Where sentences of a text begin: the places at which another sentence can be put in."""

from __future__ import annotations

import re
from itertools import chain, pairwise

MOST_CHARACTERS = 1000
"""Characters between two places: a longer run, as of code or a table, is cut at lines, else at words, else
anywhere."""

_ABBREVIATION = re.compile(
    "adm|al|ave|bros|ca|capt|cf|co|col|comdr|corp|cpl|dept|dr|ed|eds|eg|esp|est|etc|ex|figs?|fr|gen|gov|hon|ie|"
    "inc|jr|lieut|lt|ltd|maj|mme|mrs?|ms|mt|nos?|op|pp?|prof|pres|rep|rev|sen|sgt|sr|ste?|viz|vols?|vs",
    re.IGNORECASE,
)
_LONGER_THAN_ANY = 10  # characters of an abbreviation
_LAST_WORD = re.compile(r"[^\W\d_]*\Z")
_CLOSING = "\"'”’»)\\]"
_OPENING = "\"'“‘«(\\["
_AFTER_A_MARK = re.compile(
    # The end of a sentence, what closes it, and space before a letter or digit
    rf"(?<![.!?…])(?P<mark>[.!?…]+)[{_CLOSING}]*\s+(?=[{_OPENING}]*(?P<next>[^\W_]))"
)
_AFTER_A_WIDE_MARK = re.compile(r"(?<![。！？])[。！？]+[」』”’）]*\s*(?=\S)")
_PARAGRAPH = re.compile(r"\n(?:[^\S\n]*\n)+[^\S\n]*(?=\S)")
_LINE_START = re.compile(r"\n[^\S\n]*\S")
_WORD_START = re.compile(r"(?<=\s)\S")


def sentence_starts(text: str) -> tuple[int, ...]:
    """Offsets in a text at which a sentence, or what stands for one, begins; rising.

    The first is that of the first character that is no space, the last is the text's end, without the space
    there: between two of them, and nowhere else, a sentence may be put in. A full stop ends none behind an
    initial or a common abbreviation, or before a lower-case letter; a blank line always does.
    """
    end = len(text.rstrip())
    begin = len(text) - len(text.lstrip())
    if begin >= end:
        return ()
    text = text[:end]
    found = {begin, end}
    found |= {match.end() for match in _AFTER_A_MARK.finditer(text) if _ends_sentence(match)}
    for pattern in (_AFTER_A_WIDE_MARK, _PARAGRAPH):
        found |= {match.end() for match in pattern.finditer(text)}
    places = sorted(place for place in found if place >= begin)
    for pattern in (_LINE_START, _WORD_START):
        places = _cut_long_runs(text, places, pattern)
    return tuple(_cut_anywhere(text, places))


def _ends_sentence(match: re.Match[str]) -> bool:
    if match["next"].islower():
        return False
    if match["mark"] != ".":
        return True
    last = _LAST_WORD.search(match.string[max(0, match.start() - _LONGER_THAN_ANY) : match.start()])
    word = last.group() if last is not None else ""
    return not (len(word) == 1 and word.isupper()) and _ABBREVIATION.fullmatch(word) is None


def _cut_long_runs(text: str, places: list[int], pattern: re.Pattern[str]) -> list[int]:
    """The places, and those of a pattern's ends in runs that are too long, as few as need be."""
    cut = places[:1]
    for place in places[1:]:
        if place - cut[-1] > MOST_CHARACTERS:
            begin, last = cut[-1], cut[-1]
            for match in pattern.finditer(text, begin, place):
                at = match.end() - 1
                if at - begin > MOST_CHARACTERS and last > begin:
                    cut.append(last)
                    begin = last
                last = at
            if place - begin > MOST_CHARACTERS and last > begin:
                cut.append(last)
        cut.append(place)
    return cut


def _cut_anywhere(text: str, places: list[int]) -> list[int]:
    """The places, and more where runs without any space are too long."""
    between = (range(start + MOST_CHARACTERS, end, MOST_CHARACTERS) for start, end in pairwise(places))
    cut = (place for place in chain.from_iterable(between) if not text[place].isspace())
    return sorted({*places, *cut})
