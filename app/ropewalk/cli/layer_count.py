"""A number of layers on the command line, or `auto`."""

from __future__ import annotations

import click

_AUTO = "auto"


class LayerCount(click.ParamType):  # type: ignore[type-arg]  # generic in newer releases of click alone
    """A number from 0 on, -1 for all of them; `auto`, which is None to the verb."""

    name = "layers"

    def convert(
        self, value: str | int, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | None:
        """The number.

        Raises:
            BadParameter: it is none.
        """
        if str(value) == _AUTO:
            return None
        try:
            number = int(value)
        except ValueError:
            number = -2
        if number < -1:
            self.fail(f"'{value}' is neither {_AUTO} nor a number of layers (-1 for all)", param, ctx)
        return number
