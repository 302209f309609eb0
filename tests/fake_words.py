"""The tokenizer of the fake engine: words, single digits, other single characters, and control tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ropewalk.backend.errors import BackendError

CONTROL = re.compile(r"(<\|\w+\|>)")
START = "<|start|>"
SIZE = 1000
"""Tokens that it says it has; it has those that it has met."""

_WORDS = re.compile(r" ?[A-Za-z]+|[0-9]|.", re.DOTALL)


class FakeWords:
    """Tokens by their text, numbered as they come."""

    def __init__(self) -> None:
        """Knows the start token alone."""
        self._tokens: dict[str, int] = {START: 0}
        self._texts = [START]

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Tokens of a text."""
        words = [START] if add_special else []
        for part in CONTROL.split(text):
            if parse_special and CONTROL.fullmatch(part):
                words.append(part)
            else:
                words += [f"literal:{word}" for word in _WORDS.findall(part)]
        return [self._token(word) for word in words]

    def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of tokens, without control tokens."""
        self.require_valid(tokens)
        words = self.words_of(tokens)
        return "".join(word.removeprefix("literal:") for word in words if not CONTROL.fullmatch(word))

    def text_of(self, tokens: Sequence[int]) -> str:
        """The text of tokens, control tokens as they are spelt."""
        return "".join(word.removeprefix("literal:") for word in self.words_of(tokens))

    def words_of(self, tokens: Sequence[int]) -> list[str]:
        """What tokens stand for; what is no control token begins with `literal:`."""
        return [self._texts[token] for token in tokens]

    def require_valid(self, tokens: Sequence[int]) -> None:
        """Refuses what is no token.

        Raises:
            BackendError: names it.
        """
        for token in tokens:
            if not 0 <= token < len(self._texts):
                raise BackendError(f"{token} is not a token of this model, which has {SIZE:,}")

    def _token(self, word: str) -> int:
        if word not in self._tokens:
            self._tokens[word] = len(self._texts)
            self._texts.append(word)
        return self._tokens[word]
