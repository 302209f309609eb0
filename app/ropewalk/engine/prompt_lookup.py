"""Guessing how a text goes on: where its last tokens stood before, and what followed there.

After Saxena, "Prompt Lookup Decoding" (2023). There is no index to keep: a look through a hundred thousand
tokens takes a few hundredths of a millisecond, which is little beside computing one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_LONGEST_MATCH = 32
_MOST_COMPARED = 16_384

_Positions = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Guess:
    """How a text may go on.

    Attributes:
        tokens: that followed the last time.
        match: how many tokens before them were the same; 32 at most.
    """

    tokens: tuple[int, ...]
    match: int


class PromptLookup:
    """A text that grows, and what it repeats."""

    def __init__(self, tokens: Sequence[int]) -> None:
        """Begins with a text: the document, the question, whatever may be quoted."""
        self._length = len(tokens)
        self._tokens = np.empty(self._length + 1024, dtype=np.int32)
        self._tokens[: self._length] = tokens

    def append(self, token: int) -> None:
        """The text goes on."""
        if self._length == len(self._tokens):
            self._tokens = np.concatenate([self._tokens, np.empty_like(self._tokens)])
        self._tokens[self._length] = token
        self._length += 1

    def guess(self, count: int, shortest: int) -> Guess | None:
        """What followed the longest repetition; None where nothing of `shortest` tokens is repeated.

        Of several places as long, those that went on most often in the same way count, and of these the last.

        Args:
            count: tokens to guess; where the text ends before, it is taken to repeat itself.
            shortest: match, at least 1.
        """
        text = self._tokens[: self._length]
        ends, match = _repetitions(text)
        if match < shortest or count < 1:
            return None
        following = text[ends + 1]
        kinds, counts = np.unique(following, return_counts=True)
        agreed = np.isin(following, kinds[counts == counts.max()])
        start = int(ends[agreed][-1]) + 1
        return Guess(tuple(int(token) for token in np.resize(text[start:], count)), match)


def _repetitions(text: npt.NDArray[np.int32]) -> tuple[_Positions, int]:
    """Where the longest run of last tokens ended before, rising, and how long it is; 0 where nowhere."""
    if len(text) == 0:
        return np.empty(0, np.intp), 0
    last = len(text) - 1
    ends: _Positions = np.flatnonzero(text[:-1] == text[-1])
    match = 0
    following = ends
    while len(following):
        ends, match = following, match + 1
        if match == _LONGEST_MATCH:
            break
        longer = ends[ends >= match]
        following = longer[text[longer - match] == text[last - match]][-_MOST_COMPARED:]
    return ends, match
