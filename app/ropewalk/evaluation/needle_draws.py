"""What one prompt of a needle test hides: drawn so that nothing in it can be taken for something else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ropewalk.evaluation.lines_draws import draw, drawn_name, drawn_number, drawn_uuid
from ropewalk.evaluation.needle_form import KEY, VALUE, Kind, NeedleForm, filled
from ropewalk.evaluation.retrieval import Rule

_FINE = 1 << 32
_MOST_DRAWS = 10_000
_DRAWN: Mapping[Kind, Callable[..., str]] = {
    "numbers": drawn_number,
    "words": drawn_name,
    "uuids": drawn_uuid,
}


class NothingToDrawError(ValueError):
    """A text that says too many of the keys or values there are; the message is a sentence."""


@dataclass(frozen=True)
class NeedleCell:
    """Which prompt: its length in tokens, where its needle lies (0 to 1), its trial from 0, and the seed."""

    length: int
    depth: float
    trial: int
    seed: int


@dataclass(frozen=True)
class Hidden:
    """A sentence to be put into the haystack.

    Attributes:
        sentence: it.
        share: where, from 0 to 1.
    """

    sentence: str
    share: float


@dataclass(frozen=True)
class Drawn:
    """All that a prompt hides and asks.

    Attributes:
        others: sentences that are not asked for.
        asked: those that are; the first of them lies first.
        question: what is asked.
        beginning: what the answer begins with.
        expected: what a right answer says.
        rule: how it is judged.
    """

    others: tuple[Hidden, ...]
    asked: tuple[Hidden, ...]
    question: str
    beginning: str
    expected: tuple[str, ...]
    rule: Rule


def draw_needles(form: NeedleForm, cell: NeedleCell, is_said: Callable[[str], bool]) -> Drawn:
    """What the prompt of a cell hides; the same everywhere for the same seed and haystack.

    The needles that are not asked for are the same in all prompts, and the key and the distractors in all
    depths of a length and trial, so that these prompts have more in common.

    Args:
        form: what is hidden.
        cell: for which prompt.
        is_said: whether the haystack says a key or a value; such are not drawn.

    Raises:
        NothingToDrawError: it says nearly all of them.
    """
    taken: set[str] = set()

    def fresh(kind: Kind, *what: object) -> str:
        for again in range(_MOST_DRAWS):
            drawn = _DRAWN[kind]("needle", cell.seed, *what, again)
            if drawn not in taken and not is_said(drawn):
                taken.add(drawn)
                return drawn
        raise NothingToDrawError(
            f"The text says so many {kind} that none is left to hide: choose another text, or another kind"
        )

    def place(*what: object) -> float:
        return draw(_FINE, "needle", cell.seed, *what, "place") / _FINE

    def sentence(template: str, key: str, value: str) -> str:
        return filled(template, {KEY: key, VALUE: value})

    others = []
    for number in range(form.needles - 1):
        what: tuple[object, ...] = ("other", number)
        key, value = fresh(form.key_kind, *what, KEY), fresh(form.value_kind, *what, VALUE)
        others.append(Hidden(sentence(form.fact, key, value), place(*what)))
    trial = (cell.length, cell.trial)
    key = fresh(form.key_kind, *trial, KEY)
    for number in range(form.n_distractors):
        what = (*trial, "distractor", number)
        template = form.distractors[number % len(form.distractors)]
        others.append(Hidden(sentence(template, key, fresh(form.value_kind, *what)), place(*what)))
    prompt = (*trial, f"{cell.depth:.6f}")
    values = [fresh(form.value_kind, *prompt, VALUE, number) for number in range(form.values)]
    asked = [Hidden(sentence(form.fact, key, values[0]), cell.depth)]
    for number, value in enumerate(values[1:], start=1):
        share = cell.depth + (1 - cell.depth) * place(*prompt, number)
        asked.append(Hidden(sentence(form.fact, key, value), share))
    own = tuple(filled(answer, {KEY: key, VALUE: values[0]}) for answer in form.answers)
    expected = own if form.values == 1 else tuple(values)
    return Drawn(
        tuple(others),
        tuple(asked),
        filled(form.question, {KEY: key}),
        filled(form.beginning, {KEY: key}),
        expected,
        _rule(expected),
    )


def _rule(expected: tuple[str, ...]) -> Rule:
    if not all(answer.isascii() and answer.isdigit() for answer in expected):
        return "all-words"
    return "first-number" if len(expected) == 1 else "all-numbers"
