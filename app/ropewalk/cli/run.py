"""Runs a command line; whatever goes wrong ends as one sentence on stderr and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module

import click

from ropewalk.cli import command_line, interruption
from ropewalk.cli.standard_streams import drop_unwritten, tell
from ropewalk.cli.verbs import ropewalk

TRACEBACK_VARIABLE = "ROPEWALK_TRACEBACK"
"""Set in the environment, an error's traceback is shown before its sentence."""

_USAGE = 2


def run(arguments: Sequence[str]) -> int:
    """Run `ropewalk ARGUMENTS` and return the exit code of the design."""
    try:
        with ropewalk.make_context("ropewalk", list(arguments)) as context:
            command_line.remember(context, tuple(arguments))
            ropewalk.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except BrokenPipeError:  # the reader, `head` for one, has had enough
        drop_unwritten()
        return 1
    except (Exception, KeyboardInterrupt) as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            traceback.print_exc()
        sentence, exit_code = _report(error)
        tell(sentence)
        drop_unwritten()
        return exit_code
    return 0


def _report(error: BaseException) -> tuple[str, int]:
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        return str(error) or "Interrupted.", interruption.exit_code()
    if isinstance(error, click.UsageError):
        command = error.ctx.command_path if error.ctx else "ropewalk"
        message = " ".join(error.format_message().split()).rstrip(".")
        return f"{message} (see '{command} --help').", _USAGE
    if isinstance(error, click.ClickException):
        return " ".join(error.format_message().split()), error.exit_code
    report: tuple[str, int] = import_module("ropewalk.cli.failures").report(error)
    return report
