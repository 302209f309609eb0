"""The options of verbs that answer questions."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import click

from ropewalk.cli.argument_text import readable
from ropewalk.engine import SamplingOptions

Verb = Callable[..., None]

_USUAL = SamplingOptions()


@dataclass(frozen=True)
class AnswerOptions:
    """How answers are made.

    Attributes:
        max_tokens: longest answer in tokens.
        beyond: whether texts may be longer than the model's target length.
        snapshots: whether what was read is kept on disk, and taken from there.
        draft: most tokens that are drafted at once from the text; 0 for none, None for the engine's own.
        system: what the model is told to be; None leaves that to its template.
        temperature: of the draw; 0 takes the likeliest token each time.
        top_k: draw among so many; 0 for all.
        top_p: draw among the fewest that make up this probability.
        min_p: leave out what is less likely than this share of the likeliest.
    """

    max_tokens: int
    beyond: bool
    snapshots: bool
    draft: int | None
    system: str | None
    temperature: float
    top_k: int
    top_p: float
    min_p: float

    def sampling(self, seed: int) -> SamplingOptions:
        """How tokens are drawn."""
        return SamplingOptions(
            temperature=self.temperature, top_k=self.top_k, top_p=self.top_p, min_p=self.min_p, seed=seed
        )


def answer_options(longest: int) -> Callable[[Verb], Verb]:
    """Give a verb the options of answering; it receives them as `answering`, an `AnswerOptions`.

    Args:
        longest: the longest answer by default, in tokens.
    """

    def decorate(verb: Verb) -> Verb:
        @functools.wraps(verb)
        def with_answering(
            *,
            max_tokens: int,
            beyond: bool,
            snapshots: bool,
            draft: int | None,
            system: str | None,
            temperature: float,
            top_k: int,
            top_p: float,
            min_p: float,
            **others: object,
        ) -> None:
            answering = AnswerOptions(
                max_tokens,
                beyond,
                snapshots,
                draft,
                None if system is None else readable(system),
                temperature,
                top_k,
                top_p,
                min_p,
            )
            verb(answering=answering, **others)

        decorated: Verb = with_answering
        for option in reversed(_options(longest)):
            decorated = option(decorated)
        return decorated

    return decorate


def _options(longest: int) -> list[Callable[[Verb], Verb]]:
    return [
        click.option(
            "--max-tokens",
            type=click.IntRange(1),
            default=longest,
            show_default=True,
            help="Longest answer in tokens.",
        ),
        click.option("--system", metavar="TEXT", help="What the model is told to be, before all else."),
        click.option(
            "--temperature",
            type=click.FloatRange(0, 100),
            default=_USUAL.temperature,
            show_default=True,
            help="0: the likeliest token each time.",
        ),
        click.option(
            "--top-k",
            type=click.IntRange(0, 2**31 - 1),
            default=_USUAL.top_k,
            show_default=True,
            help="At a temperature: draw among so many tokens, 0 for all.",
        ),
        click.option(
            "--top-p",
            type=click.FloatRange(0, 1),
            default=_USUAL.top_p,
            show_default=True,
            help="At a temperature: draw among the fewest tokens that make up this probability.",
        ),
        click.option(
            "--min-p",
            type=click.FloatRange(0, 1),
            default=_USUAL.min_p,
            show_default=True,
            help="At a temperature: leave out what is less likely than this share of the likeliest.",
        ),
        click.option(
            "--draft",
            type=click.IntRange(0),
            metavar="TOKENS",
            help="Most tokens guessed at once where the answer quotes the text, 0 for none "
            "[default: as many as pay].",
        ),
        click.option(
            "--snapshots/--no-snapshots",
            default=True,
            help="Keep on disk what was read, and take it from there [default: do].",
        ),
        click.option(
            "--beyond",
            is_flag=True,
            help="Go on where the text is longer than the model's target length.",
        ),
    ]
