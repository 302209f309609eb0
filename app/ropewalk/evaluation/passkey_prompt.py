"""The passkey prompt of Mohtashami and Jaggi (2023, "Landmark Attention"), at an exact length in tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

INTRODUCTION = (
    "There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. "
    "I will quiz you about the important information there."
)
FILLER = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
NEEDLE = "The pass key is {key}. Remember it. {key} is the pass key."
QUESTION = "What is the pass key? The pass key is"


class PromptLengthError(ValueError):
    """A length that no passkey prompt can have."""


class MissingDigitsError(ValueError):
    """A model that cannot read every number; the message is a sentence."""


@dataclass(frozen=True)
class PasskeyCell:
    """One question of a passkey test.

    Attributes:
        length: tokens the prompt is to have, at most.
        depth: where the key lies, as a share of the filler: 0 at the start, 1 at the end.
        trial: number of the repetition, from 0; each has another key.
        key: the five digits to be found.
    """

    length: int
    depth: float
    trial: int
    key: str


@dataclass(frozen=True)
class PasskeyPrompt:
    """A prompt built for a cell.

    Attributes:
        text: the prompt.
        tokens: its number of tokens as the model counts them.
        filler_before: repetitions of the filler before the key.
        filler_after: repetitions after it.
    """

    text: str
    tokens: int
    filler_before: int
    filler_after: int


def make_cell(length: int, depth: float, trial: int, seed: int = 0) -> PasskeyCell:
    """The cell of a length, depth and trial: its key follows from these and the seed, on every machine."""
    digest = hashlib.sha256(f"ropewalk passkey {seed} {length} {depth:.6f} {trial}".encode()).digest()
    return PasskeyCell(length, depth, trial, key=str(10000 + int.from_bytes(digest[:8], "big") % 90000))


def prompt_text(key: str, filler_before: int, filler_after: int) -> str:
    """The prompt, with the filler repeated so many times before and after the line with the key.

    Repetitions follow each other after a space; the parts stand on lines of their own.
    """
    parts = [
        INTRODUCTION,
        " ".join([FILLER] * filler_before),
        NEEDLE.format(key=key),
        " ".join([FILLER] * filler_after),
        QUESTION,
    ]
    return "\n".join(part for part in parts if part)


def haystack_text(fillers: int) -> str:
    """What every prompt begins with up to its key, with at most so many repetitions of the filler."""
    return "\n".join([INTRODUCTION, " ".join([FILLER] * fillers)])


def build_prompt(cell: PasskeyCell, count_tokens: Callable[[str], int]) -> PasskeyPrompt:
    """Build the longest prompt of a cell that has at most `cell.length` tokens.

    It is short of the length by less than one repetition of the filler. The number of repetitions is
    extrapolated from two short prompts and then corrected, so the whole prompt is tokenized only a
    few times whatever its length.

    Args:
        cell: what to build.
        count_tokens: the model's own count for a text, special tokens included.

    Raises:
        PromptLengthError: the length is below that of the prompt without any filler.
    """
    counts: dict[int, int] = {}

    def measure(repetitions: int) -> int:
        if repetitions not in counts:
            counts[repetitions] = count_tokens(_split(cell, repetitions)[0])
        return counts[repetitions]

    if measure(0) > cell.length:
        raise PromptLengthError(
            f"A passkey prompt cannot have {cell.length:,} tokens; the least here is {measure(0):,}."
        )
    per_repetition = max(1.0, (measure(24) - measure(8)) / 16)
    repetitions = max(0, int((cell.length - measure(0)) / per_repetition))
    while measure(repetitions) > cell.length:
        repetitions -= max(1, int((measure(repetitions) - cell.length) / per_repetition))
        repetitions = max(0, repetitions)
    while measure(repetitions + 1) <= cell.length:
        repetitions += max(1, int((cell.length - measure(repetitions)) / per_repetition))
        while measure(repetitions) > cell.length:
            repetitions -= 1
    text, before = _split(cell, repetitions)
    return PasskeyPrompt(text, measure(repetitions), before, repetitions - before)


def _split(cell: PasskeyCell, repetitions: int) -> tuple[str, int]:
    before = round(cell.depth * repetitions)
    return prompt_text(cell.key, before, repetitions - before), before
