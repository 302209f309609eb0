"""The results file of a verb that measures, and what no file may be written to."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from ropewalk.cli.output import print_json
from ropewalk.evaluation.results import write_json
from ropewalk_convert.errors import TargetError
from ropewalk_convert.target import regular_file


@dataclass
class ResultsTarget:
    """Where results go.

    Attributes:
        path: the results file; None where no file is wanted.
        takes_stdout: whether the results object is to be all that stands on stdout.
        kept: whether the file holds what there was when it was last saved.
    """

    path: Path | None
    takes_stdout: bool
    kept: bool = field(default=False, init=False)
    _told: bool = field(default=False, init=False)

    def save(self, results: dict[str, Any]) -> None:
        """Put what there is so far into the file, so that nothing is lost whatever comes.

        A file that cannot be written is told of once and tried again the next time: what was measured can
        still be shown.
        """
        if self.path is None:
            return
        try:
            write_json(self.path, results)
            self.kept = True
        except OSError as error:
            self.kept = False
            if not self._told:
                self._told = True
                why = error.strerror or error
                click.echo(f"ropewalk: {self.path} could not be written ({why}); going on without.", err=True)

    def finish(self, results: dict[str, Any]) -> None:
        """Put the last word into the file or on stdout; nothing where nothing was measured."""
        if self.takes_stdout:
            print_json(results)
        elif results["results"]:
            self.save(results)

    def require_kept(self) -> None:
        """End the command as failed if there was something for the file and it does not hold it.

        Raises:
            Exit: so; `save` has said why.
        """
        if self._told and not self.kept:
            raise click.exceptions.Exit(1)


def require_writable(path: Path, force: bool, option: str) -> None:
    """Refuse a file that cannot be made, before any work is done for it.

    Raises:
        BadParameter: of `option`: no regular file, one that exists without `force`, no directory for it.
    """
    try:
        file = regular_file(path)
    except TargetError as error:
        raise click.BadParameter(str(error), param_hint=f"'{option}'") from None
    except OSError as error:
        raise click.BadParameter(
            f"{path} cannot be written ({error.strerror or error})", param_hint=f"'{option}'"
        ) from None
    if file.exists() and not force:
        raise click.BadParameter(f"{path} exists; --force replaces it", param_hint=f"'{option}'")
    if not file.parent.is_dir() or not os.access(file.parent, os.W_OK):
        raise click.BadParameter(f"{path} cannot be written; check its directory", param_hint=f"'{option}'")
