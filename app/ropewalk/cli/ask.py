"""`ropewalk ask`: one question about a text."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ropewalk.cli.method_options import MethodChoice, optional_method
from ropewalk.cli.options import RunOptions, answer_options, model_options
from ropewalk.cli.output import print_json
from ropewalk.cli.progress import ProgressReport, Tokens
from ropewalk.cli.running import loaded_model
from ropewalk.documents import read_documents
from ropewalk.engine import GenerationResult, PrefillResult
from ropewalk.sessions import Conversation, PromptBuilder, answer_room, context_for
from ropewalk.wording.quantities import clock, count, rate


@click.command("ask")
@click.argument("model", metavar="MODEL", type=click.Path(path_type=Path))
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, allow_dash=True))
@click.option("-q", "--question", required=True, help="What to ask about the text.")
@answer_options(longest=512)
@click.option(
    "--json", "as_json", is_flag=True, help="Print the answer with its counts and times as one JSON object."
)
@optional_method
@model_options
def ask_command(
    *,
    model: Path,
    file: Path,
    question: str,
    max_tokens: int,
    temperature: float,
    beyond: bool,
    as_json: bool,
    choice: MethodChoice | None,
    run: RunOptions,
) -> None:
    """Ask one question about a text file (- for standard input), and print the answer as it comes."""
    document = read_documents([str(file)], stdin=sys.stdin.buffer)
    for notice in document.notices:
        click.echo(f"ropewalk: {notice}", err=True)
    progress = ProgressReport()
    with loaded_model(model, run, progress, choice) as (engine, description):
        prompt = PromptBuilder(engine).prompt(Conversation(document.text), question)
        unlimited = beyond or description.streams
        room = answer_room(len(prompt), description.target_length, max_tokens, beyond=unlimited)
        engine.resize(context_for(len(prompt) + room))
        with progress.step(f"reading {document.name}", Tokens()) as update:
            read = engine.prefill(prompt, update)
        stream = engine.generate(room, run.sampling(temperature))
        for piece in stream:
            if not as_json:
                click.echo(piece.text, nl=False)
        answer = stream.result
    if as_json:
        print_json(_as_json(read, answer))
    else:
        click.echo()
        _report(read, answer, cut_at_target=answer.reason == "length" and room < max_tokens)


def _as_json(read: PrefillResult, answer: GenerationResult) -> dict[str, object]:
    return {
        "answer": answer.text,
        "prompt_tokens": read.prompt_tokens,
        "cached_tokens": read.cached_tokens,
        "prefill_seconds": read.seconds,
        "decode_tokens": answer.tokens,
        "decode_seconds": answer.seconds,
    }


def _report(read: PrefillResult, answer: GenerationResult, *, cut_at_target: bool) -> None:
    """Say what it took, to a person at a terminal; and why an answer ends early, to anybody."""
    if cut_at_target:
        click.echo("ropewalk: The answer stopped at the model's target length; --beyond goes on.", err=True)
    elif answer.reason == "length":
        click.echo("ropewalk: The answer stopped at --max-tokens.", err=True)
    if sys.stderr.isatty():
        speed = rate(read.prompt_tokens - read.cached_tokens, read.seconds)
        click.echo(
            f"read {count(read.prompt_tokens, 'token')} in {clock(read.seconds)} ({speed}), "
            f"answered {answer.tokens:,} at {rate(answer.tokens, answer.seconds)}",
            err=True,
        )
