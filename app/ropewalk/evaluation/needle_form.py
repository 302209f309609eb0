"""What a needle test hides and asks, as templates: `{key}` and `{value}` are drawn anew for every prompt."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ropewalk.evaluation.phrases import find_phrase

Kind = Literal["numbers", "words", "uuids"]

KEY, VALUE = "key", "value"
_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{(\w*)\}")

_FACT = "The access code of {key} is {value}."
_ONE_OF_THEM = "One of the access codes of {key} is {value}."
_QUESTION = "What is the access code of {key}?"
_ALL_OF_THEM = "What are all the access codes of {key} that the text gives?"
_BEGINNING = " The access code of {key} is"
_BEGINNING_OF_ALL = " The access codes of {key} are"
_DISTRACTORS = (
    "The room number of {key} is {value}.",
    "The serial number of {key} is {value}.",
    "The access code of the neighbour of {key} is {value}.",
    "The old access code of {key}, which is no longer valid, was {value}.",
    "The account number of {key} is {value}.",
    "The badge number of {key} is {value}.",
)
_ANSWER = "\nAnswer:"


class NeedleFormError(ValueError):
    """A fact, question and answer that do not make a test; the message is a sentence."""


@dataclass(frozen=True)
class NeedleForm:
    """What is hidden and asked.

    Attributes:
        fact: the sentence with the answer.
        question: what is asked, as a whole.
        beginning: what follows the question, for a model that goes on from it; a chat does without.
        answers: all of what a right answer says.
        distractors: sentences that are no answer, in turn.
        needles: facts hidden, each with its own key; one is asked for.
        values: facts with the asked key, each with its own value; all are asked for.
        n_distractors: distractors hidden.
        key_kind, value_kind: what `{key}` and `{value}` are.
    """

    fact: str
    question: str
    beginning: str
    answers: tuple[str, ...]
    distractors: tuple[str, ...]
    needles: int
    values: int
    n_distractors: int
    key_kind: Kind
    value_kind: Kind

    @property
    def has_value(self) -> bool:
        """Whether prompts differ in what is hidden."""
        return VALUE in placeholders(self.fact)


def needle_form(
    *,
    fact: str | None = None,
    question: str | None = None,
    answers: Sequence[str] = (),
    distractors: Sequence[str] = (),
    needles: int = 1,
    values: int = 1,
    n_distractors: int | None = None,
    key_kind: Kind = "words",
    value_kind: Kind = "numbers",
) -> NeedleForm:
    """A form of what a person gives; what is left out is filled in.

    Args:
        fact: the sentence to hide; a default one where None.
        question: what to ask; a default one where None. Where it does not end as a question does, a model
            that is not asked as a chat goes on from it, else from `Answer:` behind it.
        answers: what a right answer says; the fact's value where empty.
        distractors: sentences to hide that are no answer; default ones where empty.
        needles: see `NeedleForm`.
        values: see `NeedleForm`.
        n_distractors: how many to hide; one of each given where None.
        key_kind: of `{key}`.
        value_kind: of `{value}`.

    Raises:
        NeedleFormError: they do not go together, or the answer would be said without being found.
    """
    if fact is None and (question is not None or answers):
        raise NeedleFormError("A question or an answer of one's own needs a fact, too: give --fact")
    if fact is not None and question is None:
        raise NeedleFormError("A fact of one's own needs a question, too: give --question")
    own, beginning = fact is not None, _ANSWER
    if fact is None or question is None:
        fact = _FACT if values == 1 else _ONE_OF_THEM
        question = _QUESTION if values == 1 else _ALL_OF_THEM
        beginning = _BEGINNING if values == 1 else _BEGINNING_OF_ALL
    elif question.rstrip()[-1:] not in "?？":
        beginning = ""
    if own and n_distractors and not distractors:
        raise NeedleFormError(
            "Distractors beside a fact of one's own have to be like it: give --distractor, once or more"
        )
    form = NeedleForm(
        fact=fact.strip(),
        question=question.strip(),
        beginning=beginning,
        answers=tuple(answer.strip() for answer in answers) or ("{value}",),
        distractors=tuple(distractor.strip() for distractor in distractors) or _DISTRACTORS,
        needles=needles,
        values=values,
        n_distractors=len(distractors) if n_distractors is None else n_distractors,
        key_kind=key_kind,
        value_kind=value_kind,
    )
    _check(form)
    return form


def filled(template: str, given: Mapping[str, str]) -> str:
    """A template with its placeholders filled; `{{` is a brace."""

    def fill(match: re.Match[str]) -> str:
        return match.group()[0] if match[1] is None else given[match[1]]

    return _PLACEHOLDER.sub(fill, template)


def placeholders(template: str) -> set[str]:
    """The names between braces."""
    return {match[1] for match in _PLACEHOLDER.finditer(template) if match[1] is not None}


def _check(form: NeedleForm) -> None:
    for what, templates in (
        ("--fact", [form.fact]),
        ("--question", [form.question]),
        ("--answer", form.answers),
        ("--distractor", form.distractors),
    ):
        for template in templates:
            if not template:
                raise NeedleFormError(f"{what} is empty: give a sentence, or leave it out")
            strange = sorted(placeholders(template) - {KEY, VALUE})
            if strange:
                raise NeedleFormError(
                    f"{what} has {{{strange[0]}}} in it, and there are only {{key}} and {{value}}: "
                    f"write {{{{{strange[0]}}}}} for a word between braces"
                )
    fact, question = placeholders(form.fact), placeholders(form.question)
    answers: set[str] = set().union(*map(placeholders, form.answers))
    if VALUE in question:
        raise NeedleFormError("--question has {value} in it, which gives the answer away: leave it out there")
    if VALUE in answers and VALUE not in fact:
        raise NeedleFormError(
            "--fact has no {value} in it, so what a right answer says must be given: give --answer, "
            "or write {value} into the fact"
        )
    if KEY in answers:
        raise NeedleFormError("--answer has {key} in it, which the question tells: leave it out there")
    if KEY in question and KEY not in fact:
        raise NeedleFormError("--question asks about {key}, which --fact does not have: write it into both")
    for number, name, needed in (
        (form.needles, "--needles", {KEY, VALUE}),
        (form.values, "--values", {VALUE}),
    ):
        missing = sorted(needed - fact)
        if number > 1 and missing:
            raise NeedleFormError(
                f"{name} {number} needs a fact that differs each time: write {{{missing[0]}}} into --fact"
            )
    if form.needles > 1 and KEY not in question:
        raise NeedleFormError(
            f"--needles {form.needles} needs a question that tells which of them is asked for: "
            "write {key} into --question"
        )
    if form.values > 1 and form.answers != ("{value}",):
        raise NeedleFormError(f"--values {form.values} asks for all values: leave --answer out")
    _check_answers(form)


def _check_answers(form: NeedleForm) -> None:
    """Refuse what makes a hit mean nothing: an answer that the question or a distractor says."""
    for what, templates in (("--question", [form.question]), ("--distractor", form.distractors)):
        for template in templates:
            if says_all(template, form.answers) is not None:
                raise NeedleFormError(
                    f"{what} says the answer itself ({', '.join(form.answers)}), so that a hit would mean "
                    "nothing: give another one"
                )


def says_all(text: str, answers: Sequence[str]) -> int | None:
    """Where a text says the first of several answers, if it says them all; drawn ones are in no text."""
    if any(placeholders(answer) for answer in answers):
        return None
    found = [find_phrase(text, answer) for answer in answers]
    return None if None in found else found[0]
