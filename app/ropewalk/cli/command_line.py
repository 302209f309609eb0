"""The command line as it was typed, for results that say how they were made."""

from __future__ import annotations

import click

_KEY = "ropewalk.arguments"


def remember(context: click.Context, arguments: tuple[str, ...]) -> None:
    """Keep the arguments in the context that all verbs' contexts descend from."""
    context.meta[_KEY] = arguments


def typed() -> tuple[str, ...]:
    """`ropewalk` and its arguments; `ropewalk` alone outside of a command."""
    context = click.get_current_context(silent=True)
    return ("ropewalk", *(() if context is None else context.meta.get(_KEY, ())))
