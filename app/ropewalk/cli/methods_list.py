"""`--methods a,b:name=value,c`: plans that are measured one after the other on one loaded model."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from ropewalk.cli.failures import InputFileError
from ropewalk.cli.method_options import MethodChoice, add_method_options, by_name
from ropewalk.cli.model_file import read_model_words
from ropewalk.evaluation.labelled_plan import LabelledPlan, labelled_plan
from ropewalk_plan.not_executed import not_executed

Verb = Callable[..., None]


@dataclass(frozen=True)
class MethodsAsked:
    """What a measuring verb is to run a model with.

    Attributes:
        choices: the methods; empty for the model as its file has it.
    """

    choices: tuple[MethodChoice, ...]


def methods_list(verb: Verb) -> Verb:
    """Give a verb `--methods` beside the options of one method; it receives them as `methods`."""

    @functools.wraps(verb)
    def with_methods(
        *,
        methods: str | None,
        method: str | None,
        train_length: int | None,
        target_length: int | None,
        method_option: tuple[str, ...],
        **others: object,
    ) -> None:
        context = click.get_current_context()
        if methods is not None and (method is not None or method_option):
            raise click.UsageError(
                "--methods goes without --method and --method-option: write options as "
                "--methods dprope:threshold=0.05,yarn",
                context,
            )
        listed = [(method, by_name(method_option))] if method is not None else parse_methods(methods)
        if listed and target_length is None:
            raise click.UsageError("Missing option '--target-length'", context)
        if not listed and (target_length is not None or train_length is not None or method_option):
            raise click.UsageError("Missing option '--method'", context)
        choices = tuple(
            MethodChoice(name, train_length, target_length or 0, options) for name, options in listed
        )
        verb(methods=MethodsAsked(choices), **others)

    with_list = click.option(
        "--methods",
        metavar="METHOD,...",
        help="Several, one after the other; options after colons: none,yarn,dprope:threshold=0.05",
    )(with_methods)
    return add_method_options(
        with_list,
        method="The method; several that compose are joined by +. Tried without baking it.",
        target_length="Context length to reach.",
        train_length="Context length trained on [default: the file's].",
    )


def parse_methods(text: str | None) -> list[tuple[str, dict[str, str]]]:
    """`pi,dprope:threshold=0.1` as methods with their options; none of no text."""
    listed: list[tuple[str, dict[str, str]]] = []
    for item in text.split(",") if text is not None else []:
        method, *assignments = item.strip().split(":")
        options = dict(assignment.split("=", 1) for assignment in assignments if "=" in assignment)
        if not method or len(options) < len(assignments) or not all([*options, *options.values()]):
            raise click.BadParameter(
                f"'{item}' is not METHOD or METHOD:NAME=VALUE, each name once",
                click.get_current_context(),
                param_hint="'--methods'",
            )
        listed.append((method, options))
    return listed


def labelled_plans(model: Path, choices: Sequence[MethodChoice]) -> tuple[LabelledPlan, ...]:
    """The plans that methods make for a file, in their order; what cannot be run is refused.

    Args:
        model: a GGUF file.
        choices: at least one.

    Raises:
        InputFileError: the file carries a plan, which the methods would be applied on top of, or the patched
            library would not execute one of theirs for its model.
        PlanError: a method does not make a plan for this model.
        BadParameter: two are the same.
    """
    words = read_model_words(model)
    if words.stored is not None:
        raise InputFileError(
            f"{model} carries a plan already ({words.stored.plan.method}); "
            "name the plain file it was baked from, or leave the method out."
        )
    plans: list[LabelledPlan] = []
    for choice in choices:
        made = labelled_plan(
            words.spec, choice.method, choice.target_length, choice.train_length, choice.options
        )
        if any(made.label == other.label for other in plans):
            raise click.BadParameter(
                f"{made.label} is named twice", click.get_current_context(), param_hint="'--methods'"
            )
        refused = None if made.plan is None else not_executed(made.plan, words.header)
        if refused is not None:
            raise InputFileError(f"{model}: {refused.reason}; {refused.remedy}.")
        plans.append(made)
    return tuple(plans)
