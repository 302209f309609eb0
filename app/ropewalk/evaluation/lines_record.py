"""The record of lines that LongEval's line retrieval asks about (Li et al. 2023), with words of our own."""

from __future__ import annotations

from dataclasses import dataclass

from ropewalk.evaluation.lines_draws import N_NAMES, drawn_name, drawn_number

INTRODUCTION = (
    "Below is a record of lines. Each line has a name, and at its end, between < and >, a number: its "
    "REGISTER_CONTENT. Remember the number of every line. After the record you are asked for one of them."
)
LINE = "line {name}: REGISTER_CONTENT is <{number}>"
QUESTION = "This was the record. What is the REGISTER_CONTENT of line {name}?"
BEGINNING = " The REGISTER_CONTENT of line {name} is <"

MOST_LINES = N_NAMES // 4
"""Lines that a record can have: with more, names that are new would be long in coming."""


@dataclass(frozen=True)
class Line:
    """A line of a record.

    Attributes:
        name: two words, which no other line of the record has.
        number: five digits.
    """

    name: str
    number: str

    @property
    def text(self) -> str:
        """The line as it stands in the record."""
        return LINE.format(name=self.name, number=self.number)


class Record:
    """The lines of one trial: a shorter record is the beginning of a longer one."""

    def __init__(self, seed: int, trial: int) -> None:
        """A record without lines yet; they follow from the seed and the trial, on every machine."""
        self._seed, self._trial = seed, trial
        self._lines: list[Line] = []
        self._names: set[str] = set()

    def lines(self, count: int) -> list[Line]:
        """The first so many lines, at most `MOST_LINES`."""
        while len(self._lines) < count:
            self._lines.append(self._next())
        return self._lines[:count]

    def _next(self) -> Line:
        what = ("lines", self._seed, self._trial, len(self._lines))
        again = 0
        name = drawn_name(*what, "name", again)
        while name in self._names:
            again += 1
            name = drawn_name(*what, "name", again)
        self._names.add(name)
        return Line(name, drawn_number(*what, "number"))


@dataclass(frozen=True)
class LinesPrompt:
    """A prompt about a record.

    Attributes:
        text: the whole of it.
        asked: the line that is asked for.
        asked_start: where that line begins, an offset in the text.
        record_end: where the record ends: up to there, a longer one reads the same.
        question_start: where the question begins: nothing before it tells which line is asked for.
    """

    text: str
    asked: Line
    asked_start: int
    record_end: int
    question_start: int


def asked_line(count: int, depth: float) -> int:
    """Which of `count` lines is asked for at a depth: the first at 0, the last at 1."""
    return round(depth * (count - 1))


def lines_prompt(record: Record, count: int, depth: float, *, begun: bool) -> LinesPrompt:
    """The prompt with a record's first lines that asks for the line at a depth.

    Args:
        record: of a trial.
        count: lines, at least 1.
        depth: from 0 to 1.
        begun: whether the answer's beginning follows the question, for a model that goes on from it.
    """
    lines = record.lines(count)
    number = asked_line(count, depth)
    asked = lines[number]
    texts = [INTRODUCTION, "", *(line.text for line in lines), ""]
    asked_start = sum(len(text) + 1 for text in texts[: number + 2])
    head = "\n".join(texts) + "\n"
    question = (QUESTION + BEGINNING if begun else QUESTION).format(name=asked.name)
    return LinesPrompt(head + question, asked, asked_start, len(head.rstrip()), len(head))
