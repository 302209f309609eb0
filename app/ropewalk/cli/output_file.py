"""The one file that a verb writes: given after what it is made from, or with -o."""

from __future__ import annotations

from pathlib import Path

import click

output_option = click.option(
    "-o",
    "--output",
    metavar="OUT",
    type=click.Path(path_type=Path),
    help="The file to write, if not given as an argument.",
)


def one_target(target: Path | None, output: Path | None) -> Path:
    """The file to write.

    Args:
        target: as the argument.
        output: as the option.

    Raises:
        UsageError: neither is given, or both, or it is stdout.
    """
    if target is not None and output is not None:
        raise click.UsageError("OUT is given twice, after IN and with -o.", click.get_current_context())
    path = target or output
    if path is None:
        raise click.UsageError("Missing OUT, the file to write.", click.get_current_context())
    if str(path) == "-":
        raise click.UsageError(
            "OUT is -, and a GGUF file cannot go to stdout; name a file.", click.get_current_context()
        )
    return path
