"""`ropewalk chat`: the full-screen application."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ropewalk.cli.method_options import MethodChoice, optional_method
from ropewalk.cli.options import RunOptions, answer_options, model_options
from ropewalk.cli.running import first_options, require_file
from ropewalk.documents import read_documents
from ropewalk.engine import Engine
from ropewalk.sessions import ReadingSession
from ropewalk.tui import ChatApp, Opening


@click.command("chat")
@click.argument("model", metavar="MODEL", type=click.Path(path_type=Path))
@click.argument("file", metavar="[FILE]", type=click.Path(path_type=Path), required=False)
@answer_options(longest=1024)
@optional_method
@model_options
def chat_command(
    *,
    model: Path,
    file: Path | None,
    max_tokens: int,
    temperature: float,
    beyond: bool,
    choice: MethodChoice | None,
    run: RunOptions,
) -> None:
    """Read and question a text file in a full-screen terminal application."""
    require_file(model)
    options = first_options(model, run, choice)
    document = None if file is None else read_documents([str(file)])
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("chat needs a terminal; in a script use ask", click.get_current_context())
    with Engine.start() as engine:
        session = ReadingSession(engine, run.sampling(temperature), beyond=beyond)
        opening = Opening(model, options, document, max_tokens)
        error = ChatApp(session, opening).run()
    if error is not None:
        raise error
