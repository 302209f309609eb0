"""A number of windows on the command line, or `all`."""

from __future__ import annotations

from typing import Any

import click


class WindowCount(click.IntRange):
    """At least one, or `all`, which is `ALL`."""

    ALL = -1

    def __init__(self) -> None:
        """One, and more."""
        super().__init__(1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401  # as click has it
        """The number.

        Raises:
            BadParameter: it is none.
        """
        if value == "all":
            return self.ALL
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"'{value}' is neither a number of windows, from 1 on, nor all", param, ctx)
