"""The options that name what is to be read, and reading it."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence

import click

from ropewalk.cli.progress import Measure, ProgressReport
from ropewalk.cli.standard_streams import tell
from ropewalk.documents import Document, Selection, SelectionError, Unit, parse_selection, read_documents
from ropewalk.wording.terminal import without_control

Verb = Callable[..., None]


def selection_options(verb: Verb) -> Verb:
    """Give a verb --pages and --lines; it receives them as `selection`, None for all of the text."""

    @functools.wraps(verb)
    def with_selection(*, pages: str | None, lines: str | None, **others: object) -> None:
        if pages is not None and lines is not None:
            raise click.UsageError("--pages and --lines: choose one of the two", click.get_current_context())
        verb(selection=_selection(pages, "pages") or _selection(lines, "lines"), **others)

    decorated: Verb = with_selection
    for kind, example in (("lines", "1-2000"), ("pages", "1-50,70-")):
        option = click.option(f"--{kind}", metavar="RANGES", help=f"Read these {kind} alone: {example}.")
        decorated = option(decorated)
    return decorated


def read_sources(sources: Sequence[str], selection: Selection | None, progress: ProgressReport) -> Document:
    """Read what a person named, and say on stderr what there is to say about it.

    Args:
        sources: files, folders, - for standard input.
        selection: the part to read; None for all.
        progress: told of the reading.

    Raises:
        DocumentError: one of them cannot be read.
    """
    label = (
        f"opening {without_control(sources[0])}" if len(sources) == 1 else f"opening {len(sources)} sources"
    )
    with progress.step(label, Measure()) as update:
        document = read_documents(
            sources,
            stdin=sys.stdin.buffer if "-" in sources else None,
            on_progress=update,
            selection=selection,
        )
    for notice in document.notices:
        tell(notice)
    return document


def _selection(ranges: str | None, unit: Unit) -> Selection | None:
    if ranges is None:
        return None
    try:
        return parse_selection(ranges, unit)
    except SelectionError as error:
        raise click.BadParameter(str(error), param_hint=f"'--{unit}'") from error
