"""A prompt's text as tokens, and which of them stand before a place in the text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ropewalk.evaluation.retrieval_order import common_tokens

Tokenize = Callable[[str], Sequence[int]]
"""The tokens of the prompt for a text: with the model's start token, and as a chat with its template."""

ROOM_FOR_MORE = 16
"""Tokens of an answer beyond what is expected: they show what a miss says."""


_REMEMBERED = 4  # prompts: of those tried for a length, the one that fits is asked for again


class Prompts:
    """Tokens of prompts, made for one model."""

    def __init__(self, tokenize: Tokenize) -> None:
        """With the model's tokenizer."""
        self._tokenize = tokenize
        self._vocabulary: dict[int, int] = {}
        self._recent: dict[str, tuple[int, ...]] = {}
        self._heads: dict[str, tuple[int, ...]] = {}

    def tokens(self, text: str) -> tuple[int, ...]:
        """The tokens of a prompt; those of the last few are remembered."""
        if text not in self._recent:
            known = self._vocabulary  # a token is one object wherever it stands, in millions of places
            self._recent = dict(list(self._recent.items())[1 - _REMEMBERED :])
            self._recent[text] = tuple(known.setdefault(token, token) for token in self._tokenize(text))
        return self._recent[text]

    def tokens_before(self, text: str, offset: int) -> int:
        """How many tokens of a prompt do not depend on what stands from an offset of its text on."""
        tokens = self.tokens(text)
        other = "1" if text[offset : offset + 1] == "0" else "0"
        head = text[:offset] + other
        if head not in self._heads:  # those of one prompt serve the next, which often begins alike
            self._heads = dict(list(self._heads.items())[-1:])
            self._heads[head] = tuple(self._tokenize(head))
        return common_tokens(tokens, self._heads[head])
