"""How long prompts, answers and contexts may be, and what to tell who asks for more."""

from __future__ import annotations

from dataclasses import dataclass

from ropewalk.documents import Document, fitting_range
from ropewalk.engine import ModelDescription
from ropewalk.wording.quantities import count

_CELLS = 256
"""The library rounds the number of KV cells up to a multiple of this."""

_ANSWER = 512
"""Tokens left for a conversation where a part of a document, or a target length, is proposed."""

_MARGIN = 0.97
"""Of the characters that fit by the document's tokens per character, which vary from page to page."""


class TooLongError(Exception):
    """A prompt beyond the model's target length; the message is a sentence with the remedies."""


@dataclass(frozen=True)
class Asked:
    """What a prompt is made of, for the sentence that says why it is too long.

    Attributes:
        prompt_tokens: tokens of the whole prompt.
        document_tokens: tokens up to the end of the document; 0 without one.
        document: the document, if there is one.
    """

    prompt_tokens: int
    document_tokens: int = 0
    document: Document | None = None


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
    """The option for as much of the document's beginning as fits; "" where that cannot be named."""
    if asked.document is None:
        return ""
    room = model.target_length - _ANSWER
    characters = int(len(asked.document.text) * _MARGIN * room / asked.document_tokens)
    fitting = fitting_range(asked.document, characters) if characters > 0 else None
    return "" if fitting is None else f"--{fitting[0]} {fitting[1]}"
