"""How long prompts, answers and contexts may be, and what to tell who asks for more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ropewalk.documents import Document, DocumentError, Selection, fitting_range, parse_selection
from ropewalk.documents.selection import select
from ropewalk.engine import ModelDescription
from ropewalk.wording.quantities import count

_CELLS = 256
"""The library rounds the number of KV cells up to a multiple of this."""

_ANSWER = 512
"""Tokens left for an answer where a part of a document, or a target length, is proposed."""

_MARGIN = 0.97
"""Of the characters that fit by the tokens per character so far, which vary from page to page."""

_ENOUGH = 0.9
"""Of the room, that a part is to fill."""

_TRIES = 10
"""How often a part is counted and made shorter or longer."""


class TooLongError(Exception):
    """A prompt beyond the model's target length; the message is a sentence with the remedies."""


@dataclass(frozen=True)
class Asked:
    """What a prompt is made of, for the sentence that says why it is too long.

    Attributes:
        prompt_tokens: tokens of the whole prompt.
        document_tokens: tokens up to the end of the document; 0 without one.
        document: the document, if there is one.
        selection: what of its file it is; None for all.
        counted: the same as `document_tokens` of another document; None where no part is to be proposed.
    """

    prompt_tokens: int
    document_tokens: int = 0
    document: Document | None = None
    selection: Selection | None = None
    counted: Callable[[Document], int] | None = None


def answer_room(asked: Asked, model: ModelDescription, wanted: int, *, beyond: bool = False) -> int:
    """Tokens that an answer may have.

    Args:
        asked: the prompt.
        model: whose target length is the limit, but under a streaming plan.
        wanted: the longest answer asked for, in tokens.
        beyond: whether the target length is no limit.

    Raises:
        TooLongError: the prompt leaves no room within the target length.
    """
    if beyond or model.streams:
        return wanted
    room = model.target_length - asked.prompt_tokens
    if room < 1:
        raise TooLongError(_too_long(asked, model))
    return min(wanted, room)


def context_for(tokens: int) -> int:
    """The context length to make for so many tokens."""
    return -(-tokens // _CELLS) * _CELLS


def _too_long(asked: Asked, model: ModelDescription) -> str:
    target = f"the target length of {model.target_length:,}"
    longer = f"{_longer_target(asked, model)}, or go on all the same with --beyond"
    if asked.document is None:
        return f"The prompt has {count(asked.prompt_tokens, 'token')}, beyond {target}: {longer}."
    left = model.target_length - asked.document_tokens
    if left > 1:
        question = asked.prompt_tokens - asked.document_tokens
        return (
            f"The question has {count(question, 'token')}, and {left:,} are left of {target} "
            f"after {asked.document.name} ({asked.document_tokens:,}): shorten it, {longer}."
        )
    part = _fitting_part(asked, model)
    return (
        f"{asked.document.name} makes {count(asked.document_tokens, 'token')}, beyond {target}: "
        f"{longer}{f', or read a part of it, {part} for one' if part else ''}."
    )


def _longer_target(asked: Asked, model: ModelDescription) -> str:
    length = model.target_length
    while length < asked.prompt_tokens + _ANSWER:
        length *= 2
    if model.plan is None:
        return f"give the model a longer one (--method dprope --target-length {length}, or `ropewalk bake`)"
    return f"bake the plain model with --target-length {length}"


def _fitting_part(asked: Asked, model: ModelDescription) -> str:
    """The option for as much of the document's beginning as fits; "" where that cannot be named.

    What is named was counted: with the question, it leaves room for an answer.
    """
    document, counted = asked.document, asked.counted
    if document is None or counted is None:
        return ""
    question = asked.prompt_tokens - asked.document_tokens
    room = model.target_length - question - min(_ANSWER, model.target_length // 4)
    best = ""
    fits, too_long = 0, len(document.text)  # characters
    wanted = int(too_long * room / asked.document_tokens)
    for _ in range(_TRIES):
        fitting = fitting_range(document, wanted) if wanted > 0 else None
        if fitting is None:
            break
        unit, ranges = fitting[0], _within(fitting[1], asked.selection)
        try:
            part = select(document, parse_selection(ranges, unit))
        except DocumentError:
            break
        tokens = counted(part)
        if tokens <= room:
            best, fits = f"--{unit} {ranges}", len(part.text)
        else:
            too_long = min(too_long, len(part.text))
        if _ENOUGH * room <= tokens <= room:
            break
        wanted = int(_MARGIN * room / tokens * len(part.text))
        if not fits < wanted < too_long:
            wanted = (fits + too_long) // 2
    return best


def _within(beginning: str, selection: Selection | None) -> str:
    """As much of a selection as `1-LAST` has of it."""
    if selection is None:
        return beginning
    last = int(beginning.rpartition("-")[2])
    ranges = tuple(
        (first, last if end is None else min(end, last)) for first, end in selection.ranges if first <= last
    )
    return str(Selection(selection.unit, ranges))
