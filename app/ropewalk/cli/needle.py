"""`ropewalk needle`: does the model find facts that are hidden in a text of the user's?"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path, PurePath
from typing import Any

import click

from ropewalk.cli.document_options import read_sources, selection_options
from ropewalk.cli.evaluation_outputs import EvaluationOutputs, evaluation_outputs
from ropewalk.cli.methods_list import MethodsAsked, methods_list
from ropewalk.cli.needle_options import needle_options
from ropewalk.cli.options import RunOptions, model_options
from ropewalk.cli.planned_model import planned_model
from ropewalk.cli.progress import Measure, ProgressReport
from ropewalk.cli.retrieval_measuring import RetrievalTest, measure
from ropewalk.cli.retrieval_options import PromptsAsked, prompt_options
from ropewalk.cli.standard_streams import tell
from ropewalk.documents import Document, Selection
from ropewalk.evaluation.haystack_tasks import ROOM_FOR_MORE
from ropewalk.evaluation.needle import TEST, haystack_of, needle_tasks
from ropewalk.evaluation.needle_form import NeedleForm, says_all
from ropewalk.evaluation.passkey import require_digits
from ropewalk.evaluation.report_retrieval import RetrievalWords, retrieval_report
from ropewalk.evaluation.shipped_text import NAME, shipped_text
from ropewalk.sessions import context_for


@click.command("needle")
@click.argument("model", metavar="MODEL", type=click.Path(path_type=Path))
@click.option(
    "--haystack",
    "sources",
    metavar="FILE",
    multiple=True,
    help="The text to hide facts in: a file or folder, - for standard input; may be repeated "
    "[default: a novel that comes with the package].",
)
@click.option("--repeat", is_flag=True, help="Repeat the text where it is too short.")
@selection_options
@needle_options
@prompt_options(
    depth="Where the fact lies, from 0 (start) to 1 (end).",
    trials="Prompts per length and depth, each with another key and value.",
)
@evaluation_outputs
@methods_list
@model_options
def needle_command(
    *,
    model: Path,
    sources: tuple[str, ...],
    repeat: bool,
    selection: Selection | None,
    form: NeedleForm,
    prompts: PromptsAsked,
    outputs: EvaluationOutputs,
    methods: MethodsAsked,
    run: RunOptions,
) -> None:
    """Test whether a model finds facts that are hidden in a text of yours.

    A fact is put between two sentences of the text, and a question about it follows at the end. Without
    --haystack the text is Jane Austen's "Persuasion", which many models have read. Without --fact, the fact
    is an access code that is drawn anew for every prompt. --needles, --values and --distractors hide more, as
    RULER (Hsieh et al. 2024) does. A prompt is at most as long as asked and short of it by less than one
    sentence; decoding is greedy; a number has to be exact and the first that is said, words have to be said
    as whole words. `--seed` gives other keys, values and places.
    """
    if prompts.trials > 1 and not form.has_value:
        raise click.UsageError(
            "Without {value} in the fact all trials are the same: write it in, or leave --trials out",
            click.get_current_context(),
        )
    progress = ProgressReport()
    document = _haystack(sources, selection, progress)
    _require_unsaid(document, form)
    with planned_model(model, run, progress, methods) as planned:
        if form.value_kind != "words":
            require_digits(planned.engine)
        engine, longest = planned.engine, max(prompts.lengths)
        tokenize = prompts.tokenizer(engine)
        planned.require_room(context_for(longest + ROOM_FOR_MORE))
        with progress.step("counting the prompts' tokens", Measure()) as update:
            haystack = haystack_of(
                document.name,
                document.text,
                lambda text: len(engine.tokenize(text, add_special=False)),
                longest,
                repeat=repeat,
            )
            tasks = needle_tasks(
                form,
                haystack,
                tokenize,
                prompts.lengths,
                prompts.depths,
                trials=prompts.trials,
                seed=run.seed,
                chat=prompts.chat,
                on_progress=update,
            )
        settings = {**prompts.settings(run), **_said(form, document, repeated=repeat)}
        test = RetrievalTest(TEST, tasks, settings, retrieval_report(_words(form, document)))
        measure(planned, test, outputs, progress)


def _haystack(sources: tuple[str, ...], selection: Selection | None, progress: ProgressReport) -> Document:
    """The text named, or the one that comes with the package."""
    if sources:
        return read_sources(sources, selection, progress)
    if selection is not None:
        raise click.UsageError(
            "--pages and --lines are of a text of yours: name it with --haystack", click.get_current_context()
        )
    return Document.of_text(NAME, shipped_text())


def _require_unsaid(document: Document, form: NeedleForm) -> None:
    """Refuse a text that says the answer already; tell where the fact itself does not."""
    said = says_all(document.text, form.answers)
    if said is not None:
        place = document.place(said)
        where = f"page {place.page}, line {place.line}" if place.page is not None else f"line {place.line}"
        raise click.UsageError(
            f"{place.file} says the answer already ({', '.join(form.answers)}, {where}), so that a hit would "
            "mean nothing: choose another fact or another text",
            click.get_current_context(),
        )
    if not form.has_value and says_all(form.fact, form.answers) is None:
        tell("The fact does not say the answer in its words: a hit needs more than finding it.")


def _said(form: NeedleForm, document: Document, *, repeated: bool) -> dict[str, Any]:
    """What results depend on beside the prompts' lengths, as JSON values."""
    digest = hashlib.sha256(document.text.encode("utf-8", "surrogatepass")).hexdigest()
    return {
        "haystack": _name(document),
        "haystack_sha256": digest,
        "repeat": repeated,
        **dataclasses.asdict(form),
    }


def _name(document: Document) -> str:
    return PurePath(document.name).name or document.name


def _words(form: NeedleForm, document: Document) -> RetrievalWords:
    variant = []
    if form.needles > 1:
        variant.append(f"{form.needles} facts are hidden, each about something else, and one is asked for.")
    if form.values > 1:
        variant.append(f"{form.values} facts are hidden about the same thing, and all are asked for.")
    if form.n_distractors:
        variant.append(f"{form.n_distractors} more sentences are like the answer and are none.")
    explanation = (
        f"A fact is hidden somewhere in {document.name}, and at the end the model is asked about it: if it "
        "answers right, it can still use what it read that far back.",
        *variant,
        "Each cell of the maps says for one length and one place how often it could, out of how many tries.",
    )
    numbers = form.value_kind == "numbers" and form.answers == ("{value}",)
    rule = "exact match" if numbers else "all words of the answer"
    return RetrievalWords("Needle in a haystack", " ".join(explanation), rule, _name(document))
