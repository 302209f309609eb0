"""A prompt's text as tokens: a long document in it is tokenized once, whatever stands around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ropewalk.engine import Engine

_BETWEEN = "\ufdd0"  # Unicode has put it aside for a program's own use
_OVERLAP = 4096
"""Characters of the document's ends that are tokenized together with what stands beside them."""

_AGREED = 64
"""Tokens in which two tokenizations must agree on both sides of a cut; no token's choice reaches so far."""


class _Known(NamedTuple):
    """A text that stands in every prompt, and its tokens by themselves."""

    text: str
    tokens: list[int]


class PromptTokens:
    """Tokenizes for one loaded model."""

    def __init__(self, engine: Engine) -> None:
        """For the model that `engine` has loaded."""
        self._engine = engine
        self._start: list[int] | None = None
        self._ordinary: set[int] = set()
        self._known: dict[bool, _Known] = {}

    def whole(self, text: str, *, control: bool) -> list[int]:
        """Tokens of a whole prompt, with the model's start token, once.

        Args:
            text: all of it.
            control: whether what spells a control token is one.
        """
        return self.started(self.part(text, control=control))

    def started(self, tokens: list[int]) -> list[int]:
        """Tokens behind the model's start token, unless they begin with it, as a template may write it."""
        if self._start is None:
            self._start = _before(self._tokenize("a", control=False), self._engine.tokenize("a"))
        begun = tokens[: len(self._start)] == self._start
        return tokens if begun else self._start + tokens

    def part(self, text: str, *, control: bool) -> list[int]:
        """Tokens of a part of a prompt: those of the text tokenized at once."""
        known = self._known.get(control)
        if known is not None:
            if text == known.text:
                return list(known.tokens)
            at = text.find(known.text)
            if at >= 0:
                tokens = self._around(text[:at], known, text[at + len(known.text) :], control)
                if tokens is not None:
                    return tokens
        return self._tokenize(text, control=control)

    def remember(self, text: str, *, control: bool) -> list[int]:
        """Tokens of a text by itself, which later ones hold; the longest is remembered."""
        known = self._known.get(control)
        if known is not None and known.text == text:
            return known.tokens
        tokens = self._tokenize(text, control=control)
        if len(text) > 4 * _OVERLAP and (known is None or len(text) > len(known.text)):
            self._known[control] = _Known(text, tokens)
        return tokens

    def spells_control(self, text: str) -> bool:
        """Whether a text has a control token of the model in it."""
        tokens = self.remember(text, control=True)
        if self._are_ordinary(set(tokens)):
            return False
        if tokens == self._tokenize(text, control=False):
            return False
        if (known := self._known.get(True)) is not None and known.text == text:
            del self._known[True]  # prompts have it between marks, as the text it is
        return True

    def _tokenize(self, text: str, *, control: bool) -> list[int]:
        return self._engine.tokenize(text, add_special=False, parse_special=control)

    def _are_ordinary(self, tokens: set[int]) -> bool:
        """Whether none of these is left out of a text that is made of tokens, as control tokens are.

        They are asked for all at once, with a character between them that is in no text.
        """
        new = sorted(tokens - self._ordinary)
        if not new:
            return True
        between = self._tokenize(_BETWEEN, control=False)
        row = list(between)
        for token in new:
            row += [token, *between]
        nothing = self._engine.detokenize(between * 3).split(_BETWEEN)
        texts = self._engine.detokenize(row).split(_BETWEEN)
        if len(nothing) != 4 or len(texts) != len(new) + 2:
            return False  # not to be told this way
        ordinary = {token for token, text in zip(new, texts[1:-1], strict=True) if text != nothing[1]}
        self._ordinary |= ordinary
        return len(ordinary) == len(new)

    def _around(self, before: str, known: _Known, after: str, control: bool) -> list[int] | None:
        """Tokens of a known text between two others; None where they cannot be had from its own.

        A tokenizer decides from what is near. Where two tokenizations of texts with a common stretch have a
        long run of tokens in common there, they have it whatever stands beyond, and may be cut within it.
        """
        text, tokens = known
        first, last = text[:_OVERLAP], text[-_OVERLAP:]
        head, head_alone = (
            self._tokenize(before + first, control=control),
            self._tokenize(first, control=control),
        )
        tail, tail_alone = (
            self._tokenize(last + after, control=control),
            self._tokenize(last, control=control),
        )
        begin = _cut(len(head_alone) - _common_end(head, head_alone), _common_beginning(head_alone, tokens))
        end = _cut(len(tail_alone) - _common_end(tokens, tail_alone), _common_beginning(tail_alone, tail))
        if begin is None or end is None:
            return None
        return [
            *head[: len(head) - (len(head_alone) - begin)],
            *tokens[begin : len(tokens) - (len(tail_alone) - end)],
            *tail[end:],
        ]


def _cut(low: int, high: int) -> int | None:
    """The middle of a run of tokens that agree; None where it is too short."""
    return (low + high) // 2 if high - low >= 2 * _AGREED else None


def _common_beginning(first: Sequence[int], second: Sequence[int]) -> int:
    shorter = min(len(first), len(second))
    return next((i for i in range(shorter) if first[i] != second[i]), shorter)


def _common_end(first: Sequence[int], second: Sequence[int]) -> int:
    shorter = min(len(first), len(second))
    return next((i for i in range(shorter) if first[-1 - i] != second[-1 - i]), shorter)


def _before(inner: list[int], outer: list[int]) -> list[int]:
    """What stands before the tokens of a text where the model's own are added; those after it are not."""
    for at in range(len(outer) - len(inner) + 1):
        if outer[at : at + len(inner)] == inner:
            return outer[:at]
    return []
