"""The options that name a context-extension method: the same on every verb that takes one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import click

from ropewalk.cli.token_count import TokenCount

Verb = Callable[..., None]


@dataclass(frozen=True)
class MethodChoice:
    """A method with its lengths and options, as asked for.

    Attributes:
        method: the method's name, or several joined by `+`.
        train_length: L in tokens; None for the file's own.
        target_length: L' in tokens.
        options: the method's options by name, as they were written.
    """

    method: str
    train_length: int | None
    target_length: int
    options: dict[str, str]


def method_options(verb: Verb) -> Verb:
    """Give a verb the options that name a method; it receives them as `choice`, a `MethodChoice`."""
    return _with_choice(verb, required=True)


def optional_method(verb: Verb) -> Verb:
    """The same for a verb that runs a model: `choice` is None where no method is named."""
    return _with_choice(verb, required=False)


def _with_choice(verb: Verb, *, required: bool) -> Verb:
    @functools.wraps(verb)
    def with_choice(
        *,
        method: str | None,
        train_length: int | None,
        target_length: int | None,
        method_option: tuple[str, ...],
        **others: object,
    ) -> None:
        choice = None
        if method is not None and target_length is not None:
            choice = MethodChoice(method, train_length, target_length, by_name(method_option))
        elif method is not None or target_length is not None or train_length is not None or method_option:
            missing = "--method" if method is None else "--target-length"
            raise click.UsageError(f"Missing option '{missing}'", click.get_current_context())
        verb(choice=choice, **others)

    without_baking = "" if required else " Tried without baking it."
    return add_method_options(
        with_choice,
        method=f"The method; several that compose are joined by +.{without_baking}",
        target_length="Context length to reach.",
        train_length="Context length trained on [default: the file's].",
        required=required,
    )


def add_method_options(
    verb: Verb,
    *,
    method: str,
    target_length: str,
    train_length: str,
    required: bool = False,
    default: str | None = None,
) -> Verb:
    """Give a verb the four options as they are written; it makes a choice of them.

    Args:
        verb: takes `method`, `target_length`, `train_length` and `method_option`.
        method: the help of --method.
        target_length: that of --target-length.
        train_length: that of --train-length.
        required: whether method and target length must be given.
        default: the method where none is named.
    """
    for option in (
        click.option(
            "--method-option",
            metavar="NAME=VALUE",
            multiple=True,
            help="An option of the method; may be repeated.",
        ),
        click.option(
            "--target-length", metavar="TOKENS", type=TokenCount(), required=required, help=target_length
        ),
        click.option("--train-length", metavar="TOKENS", type=TokenCount(), help=train_length),
        click.option("--method", metavar="METHOD", required=required, default=default, help=method),
    ):
        verb = option(verb)
    return verb


def by_name(assignments: tuple[str, ...]) -> dict[str, str]:
    """`NAME=VALUE` assignments, each name once."""
    options: dict[str, str] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"'{assignment}' is not NAME=VALUE", param_hint="'--method-option'")
        if name in options:
            raise click.BadParameter(f"'{name}' is given twice", param_hint="'--method-option'")
        options[name] = value
    return options
