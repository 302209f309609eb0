"""What to compute ahead of an answer: a copy of where its last tokens stood before, as long as pays."""

from __future__ import annotations

from collections.abc import Sequence

from ropewalk.engine.draft_length import SHORTEST_MATCH, DraftLength
from ropewalk.engine.prompt_lookup import PromptLookup


class PromptDrafter:
    """Drafts for one answer, by what became of those before."""

    def __init__(self, tokens: Sequence[int]) -> None:
        """Begins with all that was read, and a first token of the answer."""
        self._lookup = PromptLookup(tokens)
        self._length = DraftLength()
        self._match = 0
        self._drafted = 0

    def append(self, token: int) -> None:
        """The answer goes on."""
        self._lookup.append(token)

    def draft(self, most: int) -> tuple[int, ...]:
        """What may follow: at most `most` tokens, none where that would not pay."""
        guess = self._lookup.guess(most, SHORTEST_MATCH)
        if guess is None:
            return ()
        self._match = guess.match
        self._drafted = self._length.choose(guess.match, most)
        return guess.tokens[: self._drafted]

    def note(self, accepted: int) -> None:
        """A token was computed, and so much of the draft asked for with it, if one was, was right."""
        self._length.note(self._match, self._drafted, accepted)
        self._drafted = 0
