"""Which prompts a test of lines or needles makes: lengths, depths, trials, raw or as a chat."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import click

from ropewalk.cli import number_lists
from ropewalk.cli.options import RunOptions
from ropewalk.engine import Engine
from ropewalk.evaluation.haystack_tasks import Tokenize
from ropewalk.sessions import Conversation
from ropewalk.sessions.prompt import PromptBuilder

Verb = Callable[..., None]

_DAY = date(2025, 1, 1)
"""The day that chat templates are told, so that the prompts of a seed are the same on every day."""


@dataclass(frozen=True)
class PromptsAsked:
    """Which prompts are wanted.

    Attributes:
        lengths: in tokens, rising.
        depths: rising.
        trials: of each length and depth.
        chat: whether each is asked as a chat.
    """

    lengths: tuple[int, ...]
    depths: tuple[float, ...]
    trials: int
    chat: bool

    def settings(self, run: RunOptions) -> dict[str, object]:
        """What results depend on, as JSON values."""
        return {
            "lengths": list(self.lengths),
            "depths": list(self.depths),
            "trials": self.trials,
            "seed": run.seed,
            "chat": self.chat,
            "kv_type": run.kv_type,
        }

    def tokenizer(self, engine: Engine) -> Tokenize:
        """Makes the tokens of a prompt for the loaded model.

        Raises:
            UsageError: it has no chat template to ask with.
        """
        if not self.chat:
            return engine.tokenize
        if engine.model is None or not engine.model.has_chat_template:
            raise click.UsageError(
                "The model has no chat template: leave --chat out", click.get_current_context()
            )
        builder = PromptBuilder(engine, today=_DAY)
        return lambda text: builder.prompt(Conversation(), text)


def prompt_options(*, depth: str, trials: str) -> Callable[[Verb], Verb]:
    """Give a verb `--lengths`, `--depths`, `--trials` and `--chat`; it receives them as `prompts`.

    Args:
        depth: the help of --depths.
        trials: that of --trials.
    """

    def decorate(verb: Verb) -> Verb:
        @functools.wraps(verb)
        def with_prompts(
            *, lengths: tuple[int, ...], depths: tuple[float, ...], trials: int, chat: bool, **others: object
        ) -> None:
            asked = PromptsAsked(tuple(sorted(set(lengths))), tuple(sorted(set(depths))), trials, chat)
            verb(prompts=asked, **others)

        decorated: Verb = with_prompts
        for option in (
            click.option(
                "--chat",
                is_flag=True,
                help="Ask with the model's chat template; else it goes on from the answer's beginning.",
            ),
            click.option("--trials", type=click.IntRange(1), default=1, show_default=True, help=trials),
            click.option(
                "--depths",
                callback=number_lists.depths,
                metavar="D,D,...",
                default="0.1,0.5,0.9",
                show_default=True,
                help=depth,
            ),
            click.option(
                "--lengths",
                callback=number_lists.lengths,
                metavar="N,N,...",
                required=True,
                help="Prompt lengths in the model's tokens.",
            ),
        ):
            decorated = option(decorated)
        return decorated

    return decorate
