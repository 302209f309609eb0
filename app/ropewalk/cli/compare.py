"""`ropewalk compare`: every method that applies, on perplexity and passkeys, with what each costs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ropewalk.cli import number_lists
from ropewalk.cli.candidate_methods import CandidatesAsked, candidate_options, find_for, without_refused
from ropewalk.cli.choose import SCORED_AT_ONCE
from ropewalk.cli.document_options import read_sources
from ropewalk.cli.evaluation_outputs import EvaluationOutputs, Recording, evaluation_outputs
from ropewalk.cli.options import RunOptions, model_options
from ropewalk.cli.planned_model import PlannedModel, planned_model
from ropewalk.cli.progress import Measure, ProgressReport, Tokens
from ropewalk.cli.retrieval_progress import run_with_progress
from ropewalk.documents import Document
from ropewalk.evaluation.compare import MEMORY, PASSKEY, PERPLEXITY
from ropewalk.evaluation.compare_report import compare_report
from ropewalk.evaluation.labelled_plan import LabelledPlan
from ropewalk.evaluation.passkey import ANSWER_TOKENS, passkey_tasks
from ropewalk.evaluation.perplexity import require_tokens, truncated_steps
from ropewalk.evaluation.perplexity_record import row_of
from ropewalk.evaluation.perplexity_windows import Stretch
from ropewalk.evaluation.results_plans import recorded_plans
from ropewalk.evaluation.results_retrieval import as_row
from ropewalk.evaluation.retrieval import RetrievalTask
from ropewalk.evaluation.shipped_text import NAME, shipped_text
from ropewalk.sessions import context_for
from ropewalk.wording.quantities import count


@dataclass(frozen=True)
class _Tests:
    """What every plan is measured on.

    Attributes:
        tasks: the passkeys.
        tokens: the text, as far as it is read.
        lengths: to which the text is cut.
    """

    tasks: Sequence[RetrievalTask]
    tokens: Sequence[int]
    lengths: Sequence[int]


@click.command("compare")
@click.argument("model", metavar="MODEL", type=click.Path(path_type=Path))
@candidate_options
@click.option(
    "--text", metavar="FILE", help="A text of yours for perplexity [default: a novel that comes along]."
)
@click.option(
    "--lengths",
    callback=lambda context, parameter, value: value and number_lists.lengths(context, parameter, value),
    metavar="N,N,...",
    help="Prompt lengths in tokens [default: the target length].",
)
@click.option(
    "--depths",
    callback=number_lists.depths,
    metavar="D,D,...",
    default="0.1,0.5,0.9",
    show_default=True,
    help="Where keys lie, from 0 (start) to 1 (end).",
)
@click.option(
    "--trials", type=click.IntRange(1), default=2, show_default=True, help="Keys per length and depth."
)
@evaluation_outputs
@model_options
def compare_command(
    *,
    model: Path,
    wanted: CandidatesAsked,
    text: str | None,
    lengths: tuple[int, ...] | None,
    depths: tuple[float, ...],
    trials: int,
    outputs: EvaluationOutputs,
    run: RunOptions,
) -> None:
    """Compare every method that applies to a model: perplexity, passkeys, memory, speed.

    DPRoPE's threshold is swept; plans that do the same are one. Perplexity is of the text cut to the train
    length and to each of the lengths. This takes its time: `ropewalk choose` asks only what
    decides.
    """
    progress = ProgressReport()
    found = find_for(model, wanted, streams=True)
    prompts = tuple(sorted(set(lengths or (wanted.target_length,))))
    cuts = sorted({*prompts, min(found.train_length, prompts[-1])})
    document = (
        Document.of_text(NAME, shipped_text()) if text is None else read_sources([text], None, progress)
    )
    with planned_model(model, run, progress, found.asked, n_scored=SCORED_AT_ONCE) as planned:
        found = without_refused(found, planned, progress)
        planned.require_room(context_for(prompts[-1] + ANSWER_TOKENS))
        with progress.step("counting the prompts' tokens", Measure()) as update:
            tokens = planned.engine.tokenize(document.text)
            require_tokens(tokens, cuts[-1])
            tasks = passkey_tasks(planned.engine, prompts, depths, trials, run.seed, on_progress=update)
        tests = _Tests(tasks, tokens[: cuts[-1]], cuts)
        settings = {
            "target_length": wanted.target_length,
            "train_length": found.train_length,
            "lengths": list(prompts),
            "depths": sorted(set(depths)),
            "trials": trials,
            "seed": run.seed,
            "text": document.name,
            "text_digest": hashlib.sha256(document.text.encode("utf-8", "surrogatepass")).hexdigest(),
            "perplexity_lengths": cuts,
            "kv_type": run.kv_type,
            "flash_attention": run.flash_attn,
        }
        click.echo(
            f"{count(len(planned.plans), 'method')}: {', '.join(plan.label for plan in planned.plans)}.",
            err=True,
        )
        with (
            outputs.recording(
                test="compare",
                model=model,
                settings=settings,
                plans=recorded_plans(planned.plans),
                report=compare_report(found.candidates.left_out),
                total=len(planned.plans) * (1 + len(tasks) + len(cuts)),
            ) as recording,
            progress.step("compare", Measure()) as overall,
        ):
            for done, plan in enumerate(planned.plans):
                overall(done, len(planned.plans))
                _measure(planned, plan, tests, recording, progress)


def _measure(
    planned: PlannedModel, plan: LabelledPlan, tests: _Tests, recording: Recording, progress: ProgressReport
) -> None:
    """Measure what is missing of a plan."""
    own = [row for row in recording.results if row["method"] == plan.label]
    asked = {(row["length"], row["depth"], row["trial"]) for row in own if row["kind"] == PASSKEY}
    read = {row["length"] for row in own if row["kind"] == PERPLEXITY}
    tasks = [task for task in tests.tasks if (task.length, task.depth, task.trial) not in asked]
    lengths = [length for length in tests.lengths if length not in read]
    measured = any(row["kind"] == MEMORY for row in own)
    if measured and not tasks and not lengths:
        return
    planned.use(plan)
    if not measured:
        devices = planned.engine.memory().devices
        recording.add(_row(MEMORY, {"method": plan.label, "cache_bytes": sum(d.cache for d in devices)}))
    if tasks:
        for answer in run_with_progress(planned.engine, tasks, progress, method=plan.label):
            recording.add(_row(PASSKEY, as_row(answer)))
    if lengths:  # last: under a schedule it makes contexts of its own
        whole = Stretch(0, 0, len(tests.tokens))
        with progress.step(f"{plan.label}, perplexity", Tokens()) as update:
            for result in truncated_steps(
                planned.engine, tests.tokens, lengths, method=plan.label, on_progress=update
            ):
                recording.add(_row(PERPLEXITY, row_of(result, whole)))


def _row(kind: str, values: dict[str, Any]) -> dict[str, Any]:
    return {"kind": kind, **values}
