"""`ropewalk choose`: which method to bake, by the cheapest evidence that tells the candidates apart."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ropewalk.cli import number_lists
from ropewalk.cli.bake_command import bake_command
from ropewalk.cli.candidate_methods import (
    CandidatesAsked,
    Found,
    candidate_options,
    find_for,
    train_length_of,
    without_refused,
)
from ropewalk.cli.document_options import read_sources
from ropewalk.cli.evaluation_outputs import EvaluationOutputs, Recording, evaluation_outputs
from ropewalk.cli.options import RunOptions, model_options
from ropewalk.cli.output import print_json
from ropewalk.cli.planned_model import PlannedModel, planned_model
from ropewalk.cli.progress import Measure, ProgressReport, Tokens, Update
from ropewalk.cli.standard_streams import tell
from ropewalk.documents import Document
from ropewalk.engine import Engine
from ropewalk.evaluation.choose import Contest, decide
from ropewalk.evaluation.choose_contest import disturbances_of, make_contest
from ropewalk.evaluation.choose_estimate import Estimate, estimate
from ropewalk.evaluation.choose_evidence import Clock, Material, MeasuringEvidence
from ropewalk.evaluation.choose_report import choose_report
from ropewalk.evaluation.labelled_plan import PLAIN, LabelledPlan
from ropewalk.evaluation.passkey import ANSWER_TOKENS, passkey_tasks
from ropewalk.evaluation.passkey_prompt import PromptLengthError
from ropewalk.evaluation.perplexity import require_tokens
from ropewalk.evaluation.results_plans import recorded_plans
from ropewalk.evaluation.retrieval import RetrievalTask
from ropewalk.evaluation.shipped_text import NAME, shipped_text
from ropewalk.sessions import context_for
from ropewalk.wording.quantities import count

SCORED_AT_ONCE = 256
_PACE_TOKENS = 512
_CONTROL_DEPTHS = (0.1, 0.5, 0.9)


class BudgetTooSmallError(Exception):
    """Nothing can be measured within the budget; the message is a sentence."""


@dataclass(frozen=True)
class _Asked:
    """Who the candidates are, and how they are to be told apart."""

    wanted: CandidatesAsked
    found: Found
    text: str | None
    depths: tuple[float, ...]
    trials: int
    budget: float | None


@click.command("choose")
@click.argument("model", metavar="MODEL", type=click.Path(path_type=Path))
@candidate_options
@click.option(
    "--text", metavar="FILE", help="A text of yours for perplexity [default: a novel that comes along]."
)
@click.option(
    "--depths",
    callback=number_lists.depths,
    metavar="D,D,...",
    default="0.1,0.5,0.9",
    show_default=True,
    help="Where keys lie, from 0 (start) to 1 (end).",
)
@click.option("--trials", type=click.IntRange(1), default=2, show_default=True, help="Keys per depth.")
@click.option(
    "--budget",
    type=click.FloatRange(0, min_open=True),
    metavar="MINUTES",
    help="Begin nothing that would take longer in all [default: as long as it takes].",
)
@evaluation_outputs
@model_options
def choose_command(
    *,
    model: Path,
    wanted: CandidatesAsked,
    text: str | None,
    depths: tuple[float, ...],
    trials: int,
    budget: float | None,
    outputs: EvaluationOutputs,
    run: RunOptions,
) -> None:
    """Find the method that makes a model read texts of a length, and say how to bake it.

    Candidates are dropped as soon as cheap evidence tells them apart: disturbance of the rotary angles only
    orders them, perplexity drops what is surely worse, and passkeys at the target length decide.
    """
    found = find_for(model, wanted, streams=False) if _extends(model, wanted, outputs) else None
    if found is not None:
        _choose(model, _Asked(wanted, found, text, depths, trials, budget), outputs, run)


def _extends(model: Path, wanted: CandidatesAsked, outputs: EvaluationOutputs) -> bool:
    """Whether there is anything to choose; says so where there is not."""
    train_length = train_length_of(model, wanted)
    if wanted.target_length > train_length:
        return True
    click.echo(
        f"Nothing is needed: {model.name} was trained on {train_length:,} tokens, which "
        f"{wanted.target_length:,} do not exceed.",
        err=outputs.target.takes_stdout,
    )
    if outputs.target.takes_stdout:
        print_json({"choice": PLAIN, "command": None, "train_length": train_length})
    return False


def _choose(model: Path, asked: _Asked, outputs: EvaluationOutputs, run: RunOptions) -> None:
    progress, found, wanted = ProgressReport(), asked.found, asked.wanted
    document = (
        Document.of_text(NAME, shipped_text())
        if asked.text is None
        else read_sources([asked.text], None, progress)
    )
    with planned_model(model, run, progress, found.asked, n_scored=SCORED_AT_ONCE) as planned:
        found = without_refused(found, planned, progress)
        asked, plans = dataclasses.replace(asked, found=found), found.candidates.plans
        planned.require_room(context_for(wanted.target_length + ANSWER_TOKENS))
        disturbances = disturbances_of(plans, found.spec, wanted.target_length, found.train_length)
        contest = make_contest(
            plans,
            found.spec,
            disturbances,
            target_length=wanted.target_length,
            train_length=found.train_length,
            cells=len(set(asked.depths)) * asked.trials,
            control_cells=len(_CONTROL_DEPTHS),
        )
        material = _material(planned, contest, document, asked, seed=run.seed, progress=progress)
        clock = Clock(None if asked.budget is None else 60 * asked.budget)
        settings = _settings(contest, document, asked, run)
        with outputs.recording(
            test="choose",
            model=model,
            settings=settings,
            plans=recorded_plans(plans),
            report=choose_report(
                contest, disturbances, wanted.target_length, _commands(model, wanted, plans)
            ),
        ) as recording:
            _take_pace(planned, material, clock, progress)
            _announce(contest, asked, estimate(contest, material, clock.cost), len(recording.results))

            def step(label: str) -> AbstractContextManager[Update]:
                return progress.step(label, Tokens())

            evidence = MeasuringEvidence(
                recording.results,
                engine=planned.engine,
                material=material,
                add=recording.add,
                step=step,
                clock=clock,
            )
            decide(contest, evidence)
        _tell_refused(clock, asked, recording)


def _tell_refused(clock: Clock, asked: _Asked, recording: Recording) -> None:
    """Say what the budget did not hold.

    Raises:
        BudgetTooSmallError: not even the first measurement.
    """
    if clock.refused and not recording.results:
        raise BudgetTooSmallError(
            f"A budget of {asked.budget:g} minutes is too small for {clock.refused}; "
            "give more, or leave it out."
        )
    if clock.refused:
        tell(f"The budget of {asked.budget:g} minutes ended before {clock.refused}.")


def _material(
    planned: PlannedModel,
    contest: Contest,
    document: Document,
    asked: _Asked,
    *,
    seed: int,
    progress: ProgressReport,
) -> Material:
    """The tokens to read, and the questions.

    Raises:
        TextTooShortError: the text has too few tokens.
        PromptLengthError: the target length is too short for a passkey.
    """
    engine = planned.engine
    with progress.step("counting the prompts' tokens", Measure()) as update:
        tokens = tuple(engine.tokenize(document.text))
        require_tokens(tokens, max(stage.end for stage in contest.stages), "give a longer text")
        cells = passkey_tasks(
            engine, [asked.wanted.target_length], asked.depths, asked.trials, seed, on_progress=update
        )
        control = _control(engine, asked.found.train_length, seed)
    plans = {plan.label: plan for plan in planned.plans}

    def use(plan: LabelledPlan) -> None:
        planned.use(plans[plan.label])

    stages = {stage.name: stage for stage in contest.stages}
    return Material(plans, contest.plain, tokens, stages, tuple(cells), tuple(control), use)


def _control(engine: Engine, train_length: int, seed: int) -> list[RetrievalTask]:
    """Questions within the train length, if it has room for one."""
    try:
        return passkey_tasks(engine, [train_length], _CONTROL_DEPTHS, 1, seed)
    except PromptLengthError:
        return []


def _settings(contest: Contest, document: Document, asked: _Asked, run: RunOptions) -> dict[str, Any]:
    return {
        "target_length": asked.wanted.target_length,
        "train_length": asked.found.train_length,
        "depths": sorted(set(asked.depths)),
        "trials": asked.trials,
        "seed": run.seed,
        "text": document.name,
        "text_digest": hashlib.sha256(document.text.encode("utf-8", "surrogatepass")).hexdigest(),
        "stages": [f"{stage.name}: {stage.first} to {stage.end}" for stage in contest.stages],
        "kv_type": run.kv_type,
        "flash_attention": run.flash_attn,
    }


def _take_pace(planned: PlannedModel, material: Material, clock: Clock, progress: ProgressReport) -> None:
    """Read a little, to know what reading costs."""
    tokens = material.tokens[:_PACE_TOKENS]
    engine: Engine = planned.engine
    material.use(material.plans[material.plain])
    with progress.step("taking the pace", Tokens()) as update:
        for n_tokens in (len(tokens) // 2, len(tokens)):
            engine.drop_sequence(0)
            begun = time.perf_counter()
            engine.prefill(tokens[:n_tokens], update)
            clock.samples.append((n_tokens, time.perf_counter() - begun))


def _announce(contest: Contest, asked: _Asked, cost: Estimate, known: int) -> None:
    left_out = "".join(f"\n  {entry.label}: {entry.reason}" for entry in asked.found.candidates.left_out)
    click.echo(f"{count(len(contest.order), 'candidate')}: {', '.join(contest.order)}.", err=True)
    if left_out:
        click.echo(f"Not among them:{left_out}", err=True)
    bound = "" if asked.budget is None else f" The budget is {asked.budget:g} minutes."
    resumed = f" {count(known, 'result')} of them are there already." if known else ""
    click.echo(f"{cost.words}{resumed}{bound}", err=True)


def _commands(
    model: Path, wanted: CandidatesAsked, plans: Sequence[LabelledPlan]
) -> Callable[[str], str | None]:
    """The command that bakes each plan, as a shell takes it; None for the plain model."""
    by_label = {plan.label: plan for plan in plans}

    def command_for(label: str) -> str | None:
        plan = by_label[label]
        if plan.plan is None:
            return None
        return bake_command(model, plan, wanted.target_length, wanted.train_length)

    return command_for
