"""`ropewalk ask`: questions about documents."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from ropewalk.cli.answer_options import AnswerOptions, answer_options
from ropewalk.cli.answers import Answer, answer_json, report_answer
from ropewalk.cli.argument_text import readable
from ropewalk.cli.document_options import read_sources, selection_options
from ropewalk.cli.method_options import MethodChoice, optional_method
from ropewalk.cli.options import RunOptions, model_options
from ropewalk.cli.output import print_json
from ropewalk.cli.progress import Measure, ProgressReport, Update
from ropewalk.cli.reading_steps import reading_steps
from ropewalk.cli.running import first_options, require_file, started_engine
from ropewalk.cli.standard_streams import tell
from ropewalk.documents import Document, Selection, find_quotations
from ropewalk.engine import Engine, EngineOptions, ModelDescription
from ropewalk.sessions import (
    Asked,
    Conversation,
    PromptBuilder,
    Reader,
    SnapshotShelf,
    answer_room,
    context_for,
)
from ropewalk.wording.quantities import count, size
from ropewalk.wording.terminal import without_control


@click.command("ask")
@click.argument("model", metavar="MODEL", type=click.Path(path_type=Path))
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(allow_dash=True))
@click.option(
    "-q", "--question", "questions", multiple=True, required=True, help="What to ask; may be repeated."
)
@selection_options
@click.option(
    "--raw",
    is_flag=True,
    help="Leave the model's chat template out: it goes on from the question's own words.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print a JSON object with the answer, its quotations, counts and times; of several, a list.",
)
@answer_options(longest=512)
@optional_method
@model_options
def ask_command(
    *,
    model: Path,
    files: tuple[str, ...],
    questions: tuple[str, ...],
    selection: Selection | None,
    raw: bool,
    as_json: bool,
    answering: AnswerOptions,
    choice: MethodChoice | None,
    run: RunOptions,
) -> None:
    """Ask questions about documents, and print the answers as they come.

    MODEL is a GGUF file. A FILE is a text, a PDF, EPUB, DOCX or HTML file, a folder of source files, or -
    for standard input.
    """
    if not raw and not all(question.strip() for question in questions):
        raise click.UsageError("-q: the question is empty", click.get_current_context())
    require_file(model)
    options = first_options(model, run, choice)
    progress = ProgressReport()
    document = read_sources(files, selection, progress)
    questions = tuple(map(readable, questions))
    task = _Task(model, options, document, selection, questions, answering, run.seed, raw, as_json, progress)
    with started_engine() as engine:
        with progress.step(f"counting the tokens of {document.name}", Measure()) as update:
            prompts = _prompts(engine, task, update)
        answers = _answers(engine, task, prompts)
        if as_json:
            _print_json(answers, several=len(questions) > 1)
        else:
            for number, answer in enumerate(answers, 1):
                report_answer(answer, answering.max_tokens)
                if number < len(questions):
                    click.echo()


@dataclass(frozen=True)
class _Task:
    """What is to be done.

    Attributes:
        model: the GGUF file.
        options: how to run it.
        document: what is asked about.
        selection: what of its file that is; None for all.
        questions: what is asked.
        answering: how answers are made.
        seed: of what is drawn.
        raw: whether the model's chat template is left out.
        quiet: whether answers are not printed as they come.
        progress: shows what is done.
    """

    model: Path
    options: EngineOptions
    document: Document
    selection: Selection | None
    questions: tuple[str, ...]
    answering: AnswerOptions
    seed: int
    raw: bool
    quiet: bool
    progress: ProgressReport


@dataclass(frozen=True)
class _Prompt:
    """One question, ready to be read.

    Attributes:
        question: as it was asked.
        asked: how much it is.
        tokens: all of it.
        room: tokens that its answer may have.
    """

    question: str
    asked: Asked
    tokens: list[int]
    room: int


def _prompts(engine: Engine, task: _Task, update: Update) -> list[_Prompt]:
    """Count before anything is computed: only the model's vocabulary is needed.

    Raises:
        TooLongError: one of them leaves no room for an answer.
        EngineError: the model cannot be loaded.
    """
    model = engine.load(task.model, dataclasses.replace(task.options, vocabulary_only=True))
    builder = PromptBuilder(engine, raw=task.raw)

    def counted(document: Document) -> int:
        return len(builder.document_prefix(Conversation(document.text, system=task.answering.system)))

    conversation = Conversation(task.document.text, system=task.answering.system)
    document_tokens = counted(task.document)
    prompts = []
    for number, question in enumerate(task.questions, 1):
        update(number, len(task.questions) + 1)
        tokens = builder.prompt(conversation, question)
        shared = min(document_tokens, len(tokens))
        asked = Asked(len(tokens), shared, task.document, task.selection, counted)
        room = answer_room(asked, model, task.answering.max_tokens, beyond=task.answering.beyond)
        prompts.append(_Prompt(question, asked, tokens, room))
    return prompts


def _answers(engine: Engine, task: _Task, prompts: list[_Prompt]) -> Iterator[Answer]:
    """Ask one question after the other."""
    longest = max(len(prompt.tokens) + prompt.room for prompt in prompts)
    options = dataclasses.replace(task.options, n_ctx=context_for(longest))
    shelf = SnapshotShelf(notice=tell) if task.answering.snapshots else None
    with task.progress.step(f"loading {task.model.name}", Measure()) as update:
        reader = Reader.load(engine, task.model, options, lambda done: update(done, 1.0), shelf)
    _announce(engine, reader.model, prompts[0].asked)
    for prompt in prompts:
        if len(prompts) > 1 and not task.quiet:
            _print(f"> {prompt.question}\n\n")
        yield _answer(engine, reader, task, prompt, longest)


def _answer(engine: Engine, reader: Reader, task: _Task, prompt: _Prompt, longest: int) -> Answer:
    """Ask one question, and print the answer as it comes."""
    with reading_steps(task.progress, task.document.name) as steps:
        read = reader.read(
            prompt.tokens,
            prompt.room,
            steps,
            document_tokens=prompt.asked.document_tokens,
            title=task.document.name,
            reserve=longest,
        )
    stream = engine.generate(prompt.room, task.answering.sampling(task.seed), draft=task.answering.draft)
    unended = False
    try:
        for piece in stream:
            if not task.quiet:
                _print(piece.text)
                unended = True
    except BaseException:
        if unended:
            _print("\n")  # what went wrong is said on a line of its own
        raise
    if not task.quiet:
        _print("\n")
    answer = stream.result
    return Answer(prompt.question, read, answer, find_quotations(answer.text, task.document), prompt.room)


def _print(text: str) -> None:
    """Print an answer's piece as it is; on a terminal, without what that would obey instead of showing."""
    sys.stdout.write(without_control(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def _announce(engine: Engine, model: ModelDescription, asked: Asked) -> None:
    """Tell a person at a terminal what is about to be read, and in how much memory."""
    if asked.document is None or not sys.stderr.isatty():
        return
    lengths = f"trained on {model.train_length:,}"
    if model.target_length != model.train_length:
        lengths += f", extended to {model.target_length:,}"
    used = ", ".join(
        f"{size(device.weights + device.cache + device.compute)} on {device.device}, {size(device.free)} free"
        for device in engine.memory().devices
    )
    click.echo(
        f"{without_control(asked.document.name)}: {count(asked.document_tokens, 'token')} "
        f"(the model is {lengths}); memory: {used}",
        err=True,
    )


def _print_json(answers: Iterator[Answer], *, several: bool) -> None:
    """Print all answers at the end; those there are, where the rest is interrupted or fails."""
    done = []
    try:
        for answer in answers:
            done.append(answer_json(answer))
    finally:
        if several and done:
            print_json(done)
    if not several:
        print_json(done[0])
