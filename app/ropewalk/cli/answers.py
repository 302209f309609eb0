"""An answer as JSON, and what is said below it on a terminal: what it took, and where it quotes."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import click

from ropewalk.documents import Quotation
from ropewalk.engine import GenerationResult
from ropewalk.sessions import ReadResult
from ropewalk.wording.places import excerpt, place_words
from ropewalk.wording.quantities import clock, count, rate


@dataclass(frozen=True)
class Answer:
    """One question's answer.

    Attributes:
        question: what was asked.
        read: how its prompt was read.
        generated: the answer.
        quotations: what it quotes, looked up in the document.
        room: tokens that it could have had at most.
    """

    question: str
    read: ReadResult
    generated: GenerationResult
    quotations: tuple[Quotation, ...]
    room: int


def answer_json(answer: Answer) -> dict[str, Any]:
    """All of it, with plain words as keys; seconds and tokens are numbers."""
    read, generated = answer.read, answer.generated
    return {
        "question": answer.question,
        "answer": generated.text,
        "reason": generated.reason,
        "quotations": [_quotation_json(quotation) for quotation in answer.quotations],
        "prompt_tokens": read.prompt_tokens,
        "cached_tokens": read.cached_tokens,
        "restored_tokens": read.restored_tokens,
        "prefill_seconds": read.seconds,
        "decode_tokens": generated.tokens,
        "decode_seconds": generated.seconds,
        "drafted_tokens": generated.drafted,
        "accepted_tokens": generated.accepted,
    }


def report_answer(answer: Answer, max_tokens: int) -> None:
    """Say why an answer ends early; and to a person at a terminal, what it quotes and what it took."""
    if answer.generated.reason == "length":
        cut_at_target = answer.room < max_tokens
        where = "the model's target length; --beyond goes on" if cut_at_target else "--max-tokens"
        click.echo(f"ropewalk: The answer stopped at {where}.", err=True)
    if sys.stderr.isatty():
        for quotation in answer.quotations:
            click.echo(f"  “{excerpt(quotation.text)}”  {_where(quotation)}", err=True)
        click.echo(_took(answer), err=True)


def _took(answer: Answer) -> str:
    read, generated = answer.read, answer.generated
    parts = []
    if read.restored_tokens:
        parts.append(f"{count(read.restored_tokens, 'token')} from a snapshot")
    elif read.cached_tokens:
        parts.append(f"{count(read.cached_tokens, 'token')} known already")
    speed = rate(read.computed_tokens, read.seconds)
    parts.append(f"read {count(read.computed_tokens, 'token')} in {clock(read.seconds)} ({speed})")
    parts.append(f"answered {generated.tokens:,} at {rate(generated.tokens, generated.seconds)}")
    if generated.drafted:
        parts.append(f"{generated.accepted:,} of {generated.drafted:,} drafted tokens accepted")
    return ", ".join(parts)


def _quotation_json(quotation: Quotation) -> dict[str, Any]:
    place = quotation.place
    return {
        "text": quotation.text,
        "found": place is not None,
        "exact": quotation.exact,
        "file": None if place is None else place.file,
        "page": None if place is None else place.page,
        "line": None if place is None else place.line,
        "section": None if place is None else place.section,
    }


def _where(quotation: Quotation) -> str:
    place = quotation.place
    if place is None:
        return "is not in the text"
    words = place_words(place.file, place.page, place.line, place.section)
    return words if quotation.exact else f"{words} (nearly so)"
