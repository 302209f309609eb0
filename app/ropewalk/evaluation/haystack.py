"""A text of the user's as a haystack: how much of it makes up so many tokens, and where a needle goes in."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence

from ropewalk.evaluation.haystack_sentences import sentence_starts

BETWEEN_COPIES = "\n\n"

_STRAIGHT = 8
"""Looks for a place along a straight line, after which the rest is halved instead."""


class HaystackTooShortError(ValueError):
    """A text has fewer tokens than a prompt needs; the message is a sentence."""


class Haystack:
    """A text that is cut off behind a sentence and has sentences put in between two of its own.

    The places for that are numbered: place 0 is before the first sentence, place `i` behind the i-th.
    """

    def __init__(self, name: str, text: str, count_tokens: Callable[[str], int]) -> None:
        """A haystack of a text that has some.

        Args:
            name: what messages call it.
            text: all of it.
            count_tokens: tokens of a part of it by itself.
        """
        self.name = name
        self.text = text
        self._places = sentence_starts(text)
        self._count_tokens = count_tokens
        self._tokens: dict[int, int] = {0: 0}

    @property
    def last(self) -> int:
        """The number of the last place, behind all of the text."""
        return len(self._places) - 1

    def part(self, start: int, end: int) -> str:
        """The text between two places."""
        return self.text[self._places[start] : self._places[end]]

    def tokens_before(self, place: int) -> int:
        """Tokens of the text before a place."""
        if place not in self._tokens:
            self._tokens[place] = self._count_tokens(self.part(0, place))
        return self._tokens[place]

    def place_at(self, share: float, end: int) -> int:
        """The place nearest to a share of the tokens before place `end`, found by a few counts.

        Args:
            share: 0 to 1; of two places as near, the first.
            end: the last place to consider.
        """
        low, high, looks = 0, end, 0
        wanted = share * self.tokens_before(end)
        while high - low > 1:  # place `low` has not more tokens before it than wanted, `high` not fewer
            before, after = self.tokens_before(low), self.tokens_before(high)
            looks += 1
            part = (wanted - before) / max(1, after - before) if looks <= _STRAIGHT else 0.5
            offset = self._places[low] + part * (self._places[high] - self._places[low])
            at = min(max(bisect_right(self._places, offset, low + 1, high) - 1, low + 1), high - 1)
            if self.tokens_before(at) <= wanted:
                low = at
                if at + 1 < high and self.tokens_before(at + 1) > wanted:
                    high = at + 1
            else:
                high = at
                if at - 1 > low and self.tokens_before(at - 1) <= wanted:
                    low = at - 1
        return low if wanted - self.tokens_before(low) <= self.tokens_before(high) - wanted else high

    def with_sentences(self, insertions: Sequence[tuple[int, str]], end: int) -> tuple[str, list[int]]:
        """The text up to a place with sentences put in.

        Args:
            insertions: (place, sentence); a place beyond `end` stands for it, and those of one place keep
                their order.
            end: the place where the text is cut off.

        Returns:
            It, without space at its end, and where each of the sentences begins in it.
        """
        order = sorted(range(len(insertions)), key=lambda i: min(insertions[i][0], end))
        starts = [0] * len(insertions)
        text, at = "", 0
        for i in order:
            place, sentence = min(insertions[i][0], end), insertions[i][1]
            text, at = text + self.part(at, place), place
            if text and not text[-1].isspace():
                text += " "
            starts[i] = len(text)
            text += sentence + (_space_at_the_end(text) or " ")
        return (text + self.part(at, end)).rstrip(), starts


def repeated(text: str, times: int) -> str:
    """A text so many times, copies apart by an empty line."""
    return BETWEEN_COPIES.join([text.strip()] * times)


def _space_at_the_end(text: str) -> str:
    return text[len(text.rstrip()) :]
