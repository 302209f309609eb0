"""`ropewalk fit`: does a model with a long context fit into this machine's memory?"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path

import click

from ropewalk.cli.document_options import read_sources
from ropewalk.cli.failures import DOES_NOT_FIT
from ropewalk.cli.fit_sizes import measure_fit
from ropewalk.cli.fit_table import Fit, Text, fit_json, print_fit
from ropewalk.cli.method_options import MethodChoice, Verb, add_method_options, by_name
from ropewalk.cli.options import RunOptions, model_options
from ropewalk.cli.output import print_json
from ropewalk.cli.progress import Measure, ProgressReport
from ropewalk.cli.running import first_options, require_file, started_engine
from ropewalk.engine import EngineOptions
from ropewalk.sessions import context_for

ANSWER_ROOM = 512
"""Tokens that a text's context has besides it: a question and the longest answer of `ask`, as it comes."""

KV_TYPES = ("f16", "q8_0", "q4_0")


@dataclass(frozen=True)
class _Asked:
    """What context is asked for: a length, and the method that reaches it."""

    length: int | None
    choice: MethodChoice | None


def _asked_options(verb: Verb) -> Verb:
    """The method's options, of which the length can stand alone here."""

    @functools.wraps(verb)
    def with_asked(
        *,
        method: str | None,
        train_length: int | None,
        target_length: int | None,
        method_option: tuple[str, ...],
        **others: object,
    ) -> None:
        choice = None
        if method is not None and target_length is not None:
            choice = MethodChoice(method, train_length, target_length, by_name(method_option))
        elif method is not None:
            raise click.UsageError("Missing option '--target-length'", click.get_current_context())
        elif train_length is not None or method_option:
            raise click.UsageError("Missing option '--method'", click.get_current_context())
        verb(asked=_Asked(target_length, choice), **others)

    return add_method_options(
        with_asked,
        method="A method to reach that length with; several that compose are joined by +.",
        target_length="Context length to fit [default: the model's target length].",
        train_length="Context length trained on [default: the file's].",
    )


@click.command("fit")
@click.argument("model", metavar="MODEL", type=click.Path(path_type=Path))
@click.argument("files", metavar="[FILE]...", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, with all sizes in bytes.")
@_asked_options
@model_options
def fit_command(
    *, model: Path, files: tuple[str, ...], as_json: bool, asked: _Asked, run: RunOptions
) -> None:
    """Show whether a model with a long context fits into memory, and how long a context could be.

    No weight is read, and nothing is allocated: llama.cpp is asked what it would take. With a FILE, as `ask`
    takes them, its tokens are counted, and the context is one for it. Exit code 4: it does not fit.
    """
    require_file(model)
    options = first_options(model, run, asked.choice)
    progress = ProgressReport()
    text = _count(model, options, files, progress) if files else None
    n_ctx = asked.length if text is None else text.n_ctx
    with progress.step(f"measuring {model.name}", Measure()) as update:
        report = measure_fit(model, options, n_ctx, _kv_types(run.kv_type), update)
    limit = None if report.model.streams else asked.length or report.model.target_length
    found = Fit(model, text, limit, run.kv_type, report)
    if as_json:
        print_json(fit_json(found))
    else:
        print_fit(found)
    if not found.fits:
        click.get_current_context().exit(DOES_NOT_FIT)


def _count(model: Path, options: EngineOptions, files: tuple[str, ...], progress: ProgressReport) -> Text:
    """How many tokens the files are: only the model's vocabulary is loaded."""
    document = read_sources(files, None, progress)
    with (
        started_engine() as engine,
        progress.step(f"counting the tokens of {document.name}", Measure()),
    ):
        engine.load(model, dataclasses.replace(options, vocabulary_only=True))
        tokens = len(engine.tokenize(document.text))
    return Text(document.name, tokens, context_for(tokens + ANSWER_ROOM))


def _kv_types(chosen: str) -> list[str]:
    return [*KV_TYPES] if chosen in KV_TYPES else [chosen, *KV_TYPES]
