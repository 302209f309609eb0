"""Which facts a needle test hides and what it asks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import click

from ropewalk.evaluation.needle_form import NeedleFormError, needle_form

Verb = Callable[..., None]

_KINDS = ("words", "numbers", "uuids")
_OPTIONS = (
    click.option(
        "--fact",
        metavar="TEXT",
        help="The sentence to hide; {value} in it is drawn for every prompt, and {key}, too.",
    ),
    click.option("--question", metavar="TEXT", help="What to ask about it; {key} is the fact's."),
    click.option(
        "--answer",
        "answers",
        metavar="TEXT",
        multiple=True,
        help="What a right answer says; repeated, all of them [default: the fact's value].",
    ),
    click.option(
        "--needles",
        type=click.IntRange(1, 1000),
        default=1,
        show_default=True,
        help="Facts to hide, each with its own key; one is asked for.",
    ),
    click.option(
        "--values",
        type=click.IntRange(1, 100),
        default=1,
        show_default=True,
        help="Facts with the asked key, each with its own value; all are asked for.",
    ),
    click.option(
        "--distractors",
        "n_distractors",
        type=click.IntRange(0, 1000),
        help="Sentences to hide that are like the answer and are none.",
    ),
    click.option(
        "--distractor",
        "distractors",
        metavar="TEXT",
        multiple=True,
        help="Such a sentence of your own; may be repeated.",
    ),
    click.option(
        "--key-kind", type=click.Choice(("words", "uuids")), default="words", help="Keys [default: words]."
    ),
    click.option(
        "--value-kind",
        type=click.Choice(_KINDS),
        default="numbers",
        help="Values [default: numbers, of five digits].",
    ),
)
_GIVEN = (
    *("fact", "question", "answers", "needles", "values"),
    *("n_distractors", "distractors", "key_kind", "value_kind"),
)


def _require_text(given: Mapping[str, object]) -> None:
    """Refuse arguments whose bytes are no text.

    Raises:
        NeedleFormError: names the option.
    """
    for option, name in (
        ("fact",) * 2,
        ("question",) * 2,
        ("answer", "answers"),
        ("distractor", "distractors"),
    ):
        value = given[name]
        for text in value if isinstance(value, tuple) else (value or "",):
            try:
                str(text).encode()
            except UnicodeEncodeError:
                raise NeedleFormError(
                    f"--{option} has bytes in it that are no UTF-8: write it in that"
                ) from None


def needle_options(verb: Verb) -> Verb:
    """Give a verb the options of what is hidden; it receives them as `form`, a `NeedleForm`."""

    @functools.wraps(verb)
    def with_form(**given: object) -> None:
        wanted = {name: given.pop(name) for name in _GIVEN}
        try:
            _require_text(wanted)
            form = needle_form(**wanted)  # type: ignore[arg-type]  # click has seen to the types
        except NeedleFormError as error:
            raise click.UsageError(str(error), click.get_current_context()) from error
        verb(form=form, **given)

    decorated: Verb = with_form
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated
