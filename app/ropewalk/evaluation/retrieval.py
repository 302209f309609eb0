"""Tests that hide something in a long text and ask for it: what is asked, what came, what is a hit."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from ropewalk.evaluation.phrases import says

Rule = Literal["first-number", "all-numbers", "all-words"]

_NUMBER = re.compile(r"[0-9]+")


@dataclass(frozen=True)
class RetrievalTask:
    """One question to a model.

    Attributes:
        test: the test's name: `passkey`, `lines`, `needle`, ...
        length: prompt length asked for, in tokens.
        depth: where the answer lies, as a share of the text: 0 at the start, 1 at the end.
        trial: number of the repetition, from 0.
        tokens: the whole prompt.
        shared: leading tokens that do not depend on what is hidden. Where those of one task begin with those
            of another, as with a common filler, they are computed once.
        distance: tokens from the first that tells what is hidden to the prompt's end.
        expected: what a right answer says.
        rule: how answers are judged; see `is_hit`.
        answer_tokens: tokens to generate.
    """

    test: str
    length: int
    depth: float
    trial: int
    tokens: tuple[int, ...]
    shared: int
    distance: int
    expected: tuple[str, ...]
    rule: Rule
    answer_tokens: int


@dataclass(frozen=True)
class RetrievalResult:
    """What came of one task.

    Attributes:
        method: the plan's label.
        test, length, depth, trial, expected, distance: the task's.
        answer: the generated text, greedy.
        hit: whether it is right.
        prompt_tokens: tokens the prompt had.
        computed_tokens: how many of them were computed for this task; the others were held already.
        seconds: time for these and the answer, so tasks are not comparable by it.
    """

    method: str
    test: str
    length: int
    depth: float
    trial: int
    expected: tuple[str, ...]
    answer: str
    hit: bool
    prompt_tokens: int
    distance: int
    computed_tokens: int
    seconds: float


def is_hit(task: RetrievalTask, answer: str) -> bool:
    """Whether an answer is right.

    By the task's rule:

    * `first-number`: the first run of at least as many digits as expected is what is expected. So `123456` is
      no hit for `12345`, and neither is an answer that names another number first; shorter runs ("1. ...")
      are passed over.
    * `all-numbers`: the answer's first different runs of at least as many digits as the shortest expected are
      those expected, in any order: naming every number there is gains nothing.
    * `all-words`: every expected word or phrase is in the answer, as whole words where the script sets words
      apart, in capitals or not.
    """
    return _RULES[task.rule](task.expected, answer)


def _first_number(expected: Sequence[str], answer: str) -> bool:
    (number,) = expected
    long_enough = (run for run in _NUMBER.findall(answer) if len(run) >= len(number))
    return next(long_enough, None) == number


def _all_numbers(expected: Sequence[str], answer: str) -> bool:
    shortest = min(map(len, expected))
    said = dict.fromkeys(run for run in _NUMBER.findall(answer) if len(run) >= shortest)
    return set(list(said)[: len(set(expected))]) == set(expected)


def _all_words(expected: Sequence[str], answer: str) -> bool:
    return all(says(answer, phrase) for phrase in expected)


_RULES: dict[Rule, Callable[[Sequence[str], str], bool]] = {
    "first-number": _first_number,
    "all-numbers": _all_numbers,
    "all-words": _all_words,
}
