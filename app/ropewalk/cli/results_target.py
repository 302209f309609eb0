"""`--json FILE`: where a verb that measures puts its results."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ropewalk.cli.output import print_json
from ropewalk.evaluation.results import write_json

Verb = Callable[..., None]


@dataclass(frozen=True)
class ResultsTarget:
    """Where results go.

    Attributes:
        path: the results file; None where no file is wanted.
        takes_stdout: whether the results object is to be all that stands on stdout.
    """

    path: Path | None
    takes_stdout: bool

    def save(self, results: dict[str, Any]) -> None:
        """Put what there is so far into the file, so that nothing is lost whatever comes."""
        if self.path is not None:
            write_json(self.path, results)

    def finish(self, results: dict[str, Any]) -> None:
        """Put the last word into the file or on stdout; nothing where nothing was measured."""
        if self.takes_stdout:
            print_json(results)
        elif results["results"]:
            self.save(results)


def results_option(verb: Verb) -> Verb:
    """Give a verb `--json FILE` and `--force`; it receives them as `results`, a `ResultsTarget`.

    A file that exists or cannot be written is refused before anything is measured.
    """

    @functools.wraps(verb)
    def with_results(*, results_file: Path | None, force: bool, **others: object) -> None:
        verb(results=_target(results_file, force), **others)

    decorated: Verb = with_results
    for option in (
        click.option("--force", is_flag=True, help="Replace the results file if it exists."),
        click.option(
            "--json",
            "results_file",
            metavar="FILE",
            type=click.Path(path_type=Path),
            help="Write the results to FILE (- for stdout).",
        ),
    ):
        decorated = option(decorated)
    return decorated


def _target(path: Path | None, force: bool) -> ResultsTarget:
    if path is None or str(path) == "-":
        return ResultsTarget(None, takes_stdout=path is not None)
    require_writable(path, force, "--json")
    return ResultsTarget(path, takes_stdout=False)


def require_writable(path: Path, force: bool, option: str) -> None:
    """Refuse a file that cannot be made, before any work is done for it.

    Raises:
        BadParameter: of `option`: a directory, an existing file without `force`, no directory to write in.
    """
    hint = f"'{option}'"
    if path.is_dir():
        raise click.BadParameter(f"{path} is a directory; name a file in it", param_hint=hint)
    if path.exists() and not force:
        raise click.BadParameter(f"{path} exists; --force replaces it", param_hint=hint)
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise click.BadParameter(f"{path} cannot be written; check its directory", param_hint=hint)
