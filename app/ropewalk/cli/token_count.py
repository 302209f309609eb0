"""A number of tokens on the command line."""

from __future__ import annotations

import re

import click

_THOUSANDS = re.compile(r"\s*(\d+)\s*k\s*", re.IGNORECASE)


class TokenCount(click.IntRange):
    """At least one; of `32k`, which may mean two numbers, it is said how to write the one that is meant."""

    def __init__(self) -> None:
        """One, and more."""
        super().__init__(1)

    def convert(self, value: int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number.

        Raises:
            BadParameter: it is none.
        """
        found = _THOUSANDS.fullmatch(str(value))
        if found:
            self.fail(f"'{value}' is not written in digits; write {int(found[1]) * 1024}", param, ctx)
        return super().convert(value, param, ctx)
