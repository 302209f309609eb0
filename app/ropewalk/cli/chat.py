"""`ropewalk chat`: the full-screen application."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ropewalk.cli.answer_options import AnswerOptions, answer_options
from ropewalk.cli.document_options import read_sources, selection_options
from ropewalk.cli.method_options import MethodChoice, optional_method
from ropewalk.cli.options import RunOptions, model_options
from ropewalk.cli.progress import ProgressReport
from ropewalk.cli.running import first_options, require_file, started_engine
from ropewalk.documents import Selection
from ropewalk.sessions import ReadingSession, SnapshotShelf
from ropewalk.tui import ChatApp, Opening


@click.command("chat")
@click.argument("model", metavar="MODEL", type=click.Path(path_type=Path))
@click.argument("files", metavar="[FILE...]", nargs=-1, type=click.Path())
@selection_options
@answer_options(longest=1024)
@optional_method
@model_options
def chat_command(
    *,
    model: Path,
    files: tuple[str, ...],
    selection: Selection | None,
    answering: AnswerOptions,
    choice: MethodChoice | None,
    run: RunOptions,
) -> None:
    """Read and question documents in a full-screen terminal application.

    MODEL is a GGUF file. A FILE is a text, a PDF, EPUB, DOCX or HTML file, or a folder of source files.
    """
    require_file(model)
    options = first_options(model, run, choice)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("chat needs a terminal; in a script use ask", click.get_current_context())
    if selection is not None and not files:
        raise click.UsageError(f"--{selection.unit}: of which file?", click.get_current_context())
    document = read_sources(files, selection, ProgressReport()) if files else None
    with started_engine() as engine:
        session = ReadingSession(
            engine,
            answering.sampling(run.seed),
            beyond=answering.beyond,
            shelf=(lambda notice: SnapshotShelf(notice=notice)) if answering.snapshots else None,
            system=answering.system,
            draft=answering.draft,
        )
        opening = Opening(model, options, document, answering.max_tokens, selection)
        error = ChatApp(session, opening).run()
    if error is not None:
        raise error
