"""The candidates for a file and a target length, as `compare` and `choose` take them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

from ropewalk.cli.failures import InputFileError
from ropewalk.cli.method_options import MethodChoice
from ropewalk.cli.methods_list import MethodsAsked, parse_methods
from ropewalk.cli.model_file import read_model_words
from ropewalk.cli.planned_model import PlannedModel
from ropewalk.cli.progress import Measure, ProgressReport
from ropewalk.cli.running import require_file
from ropewalk.cli.token_count import TokenCount
from ropewalk.evaluation.candidates import Candidates, find_candidates
from ropewalk_plan import ContextPlan, RopeSpec
from ropewalk_plan.not_executed import not_executed

Verb = Callable[..., None]


@dataclass(frozen=True)
class CandidatesAsked:
    """Which candidates are wanted.

    Attributes:
        target_length: L' in tokens.
        train_length: L in tokens; None for the file's own.
        finetuned: also methods that need a model fine-tuned with them.
        methods: only these; None for all that apply.
    """

    target_length: int
    train_length: int | None
    finetuned: bool
    methods: str | None


@dataclass(frozen=True)
class Found:
    """The candidates for a file.

    Attributes:
        spec: the model's own rotation.
        train_length: L in tokens.
        candidates: with what was left out.
        asked: the same as methods to run the model with.
    """

    spec: RopeSpec
    train_length: int
    candidates: Candidates
    asked: MethodsAsked


def candidate_options(verb: Verb) -> Verb:
    """Give a verb the options that say which candidates; it receives them as `wanted`."""

    @functools.wraps(verb)
    def with_candidates(
        *,
        target_length: int,
        train_length: int | None,
        finetuned: bool,
        methods: str | None,
        **others: object,
    ) -> None:
        verb(wanted=CandidatesAsked(target_length, train_length, finetuned, methods), **others)

    decorated: Verb = with_candidates
    for option in (
        click.option(
            "--finetuned",
            is_flag=True,
            help="Also methods that need a model fine-tuned with them: this one was.",
        ),
        click.option(
            "--methods",
            metavar="METHOD,...",
            help="Only these, and the plain model; options after colons: yarn,dprope:threshold=0.05",
        ),
        click.option(
            "--train-length",
            metavar="TOKENS",
            type=TokenCount(),
            help="Context length trained on [default: the file's].",
        ),
        click.option(
            "--target-length",
            metavar="TOKENS",
            type=TokenCount(),
            required=True,
            help="Context length to reach.",
        ),
    ):
        decorated = option(decorated)
    return decorated


def train_length_of(model: Path, wanted: CandidatesAsked) -> int:
    """L as asked for, or the file's.

    Raises:
        InputFileError: it cannot be read.
    """
    require_file(model)
    return wanted.train_length or read_model_words(model).spec.train_length


def find_for(model: Path, wanted: CandidatesAsked, *, streams: bool) -> Found:
    """The candidates for a file.

    Args:
        model: a GGUF file.
        wanted: which.
        streams: whether plans that forget what they have read are among them.

    Raises:
        InputFileError: it cannot be read, or carries a plan already.
        PlanError: one of the methods named does not make a plan for it.
    """
    require_file(model)
    words = read_model_words(model)
    if words.stored is not None:
        raise InputFileError(
            f"{model} carries a plan already ({words.stored.plan.method}); "
            "name the plain file it was baked from."
        )

    def refusal(plan: ContextPlan) -> str | None:
        if plan.streaming and not streams:
            return "forgets what has left its window, so nothing far back can be found"
        refused = not_executed(plan, words.header)
        return None if refused is None else refused.reason

    target = wanted.target_length
    found = find_candidates(
        words.spec,
        target,
        wanted.train_length,
        finetuned=wanted.finetuned,
        methods=None if wanted.methods is None else parse_methods(wanted.methods),
        refusal=refusal,
    )
    choices = tuple(
        MethodChoice(plan.method, wanted.train_length, target, dict(plan.options)) for plan in found.plans
    )
    return Found(words.spec, wanted.train_length or words.spec.train_length, found, MethodsAsked(choices))


def without_refused(found: Found, planned: PlannedModel, progress: ProgressReport) -> Found:
    """The candidates that the library executes for the loaded model, the others with its reason.

    Raises:
        DoesNotFitError: not enough memory for even a short context.
    """
    with progress.step("trying the plans", Measure()) as update:
        refused = planned.drop_refused(update)
    left_out = (*found.candidates.left_out, *refused)
    return dataclasses.replace(found, candidates=Candidates(planned.plans, left_out))
