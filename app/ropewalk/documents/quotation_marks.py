"""Which passages of an answer are marked as quotations: in quotation marks, or as Markdown block quotes.

Marks pair within a paragraph. An apostrophe is no mark, nor is anything within Markdown's code. Everything
here takes time in proportion to the answer, whatever marks are in it.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field

_PAIRS = {  # what opens -> what closes
    '"': '"',
    "“": "”",
    "„": "“”",
    "«": "»",
    "»": "«",
    "‹": "›",
    "›": "‹",
    "「": "」",
    "『": "』",
    "'": "'",
    "‘": "’",
    "‚": "‘’",
}
_APOSTROPHES = "'’‘"
_MOST_ENDS = 4  # of a passage that an apostrophe may seem to end

_OPENS = re.compile(r"[“„«»‹›「『]|(?<!\w)[\"'‘‚](?=\S)")
_CLOSES = re.compile(r"[”“«»‹›」』]|(?<=\S)[\"'’‘](?!\w)")
_PARAGRAPH_END = re.compile(r"\n[ \t]*\n|\Z")
_CODE_FENCE = re.compile(r"^[ \t]*(?:```|~~~).*$", re.MULTILINE)
_CODE = re.compile(r"(`+)[^`\n]*\1")
_BLOCK_QUOTE = re.compile(r"(?:^[ \t]*>[^\n]*\n?)+", re.MULTILINE)
_BLOCK_PARAGRAPH = re.compile(r"(?:^[ \t]*>[> \t]*[^\s>][^\n]*\n?)+", re.MULTILINE)
_ATTRIBUTION = re.compile(r"\n[ \t>]*(?:[—–―]|--)[^\n]*\s*\Z")
_PREFIX = re.compile(r"[ \t>]*")


@dataclass(frozen=True)
class Marked:
    """A passage in an answer that is marked as a quotation.

    Attributes:
        start: where it begins, behind the mark. ends: where it ends, before the mark; several where a mark
        may also be an apostrophe, the nearest first.
        doubtful: whether both marks may be apostrophes.
    """

    start: int
    ends: tuple[int, ...]
    doubtful: bool = False


def marked_passages(answer: str) -> Iterator[Marked]:
    """The marked passages, by where they begin; of nested ones, all of them."""
    text = _without_code(answer)
    quoted = [marked for block in _BLOCK_QUOTE.finditer(text) for marked in _paragraphs(answer, block)]
    in_marks = _in_marks(_BLOCK_QUOTE.sub(lambda block: _blank(block.group()), text))
    yield from sorted([*quoted, *in_marks], key=lambda marked: marked.start)


def _paragraphs(answer: str, block: re.Match[str]) -> Iterator[Marked]:
    for match in _BLOCK_PARAGRAPH.finditer(answer, block.start(), block.end()):
        text = _ATTRIBUTION.sub("", match.group()).rstrip()
        prefix = _PREFIX.match(text)
        assert prefix is not None
        yield Marked(match.start() + prefix.end(), (match.start() + len(text),))


def _in_marks(text: str) -> Iterator[Marked]:
    closers: dict[str, _Positions] = {}
    for match in _CLOSES.finditer(text):
        closers.setdefault(match.group(), _Positions()).append(match.start())
    paragraph_ends = _Positions([match.start() for match in _PARAGRAPH_END.finditer(text)])
    for match in _OPENS.finditer(text):
        mark, start = match.group(), match.end()
        limit = paragraph_ends.after(start, 1)[0]
        most = _MOST_ENDS if mark in _APOSTROPHES else 1
        ends = sorted(
            end
            for closer in _PAIRS[mark]
            if closer in closers
            for end in closers[closer].after(start + 1, most)
            if end <= limit
        )
        if ends:
            yield Marked(start, tuple(ends[:most]), doubtful=mark == "'")


@dataclass
class _Positions:
    """Rising positions."""

    values: list[int] = field(default_factory=list)

    def append(self, value: int) -> None:
        self.values.append(value)

    def after(self, start: int, most: int) -> list[int]:
        """The next at or after `start`, so many at the most."""
        first = bisect_left(self.values, start)
        return self.values[first : first + most]


def _without_code(answer: str) -> str:
    """The answer with spaces for what is code, of the same length."""
    pieces: list[str] = []
    end, within = 0, False
    for fence in _CODE_FENCE.finditer(answer):
        piece = answer[end : fence.start()]
        pieces.append(_blank(piece) if within else piece)
        pieces.append(_blank(fence.group()))
        end, within = fence.end(), not within
    pieces.append(_blank(answer[end:]) if within else answer[end:])
    return _CODE.sub(lambda code: " " * len(code.group()), "".join(pieces))


def _blank(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)
