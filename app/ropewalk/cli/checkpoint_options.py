"""The options that name a method for a checkpoint, which may have one of its own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import click

from ropewalk.cli.method_options import add_method_options, by_name

Verb = Callable[..., None]


@dataclass(frozen=True)
class CheckpointChoice:
    """A method for a checkpoint, as asked for.

    Attributes:
        method: `keep` for the checkpoint's own, `none`, a method's name, or several joined by `+`.
        train_length: L in tokens; None for the checkpoint's own.
        target_length: L' in tokens; None for as far as the checkpoint's method reaches.
        options: the method's options by name, as they were written.
    """

    method: str
    train_length: int | None
    target_length: int | None
    options: dict[str, str]


def checkpoint_options(verb: Verb) -> Verb:
    """Give a verb the options that name a method for a checkpoint; it receives them as `choice`."""

    @functools.wraps(verb)
    def with_choice(
        *,
        method: str,
        train_length: int | None,
        target_length: int | None,
        method_option: tuple[str, ...],
        **others: object,
    ) -> None:
        method = method.lower()  # all names are
        choice = CheckpointChoice(method, train_length, target_length, by_name(method_option))
        if method in ("keep", "none") and (train_length is not None or choice.options):
            given = "--train-length" if train_length is not None else "--method-option"
            raise click.UsageError(
                f"--method {method} takes no {given}: name a method that does, or leave it out",
                click.get_current_context(),
            )
        if method == "none" and target_length is not None:
            raise click.UsageError(
                "--method none leaves the context length as it is: leave --target-length out, or name a "
                "method",
                click.get_current_context(),
            )
        verb(choice=choice, **others)

    return add_method_options(
        with_choice,
        method="keep: the checkpoint's own (the default); none; or a method, several joined by +.",
        target_length="Context length to reach [default: the checkpoint's own].",
        train_length="Context length trained on before any extension [default: the checkpoint's].",
        default="keep",
    )
