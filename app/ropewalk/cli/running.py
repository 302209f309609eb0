"""What every verb that runs a model does first: start the engine and load the file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ropewalk.cli.failures import InputFileError
from ropewalk.cli.method_options import MethodChoice
from ropewalk.cli.model_file import read_model_words
from ropewalk.cli.options import RunOptions
from ropewalk.cli.progress import Measure, ProgressReport
from ropewalk.engine import Engine, EngineOptions, ModelDescription
from ropewalk_plan import make_plan
from ropewalk_plan.not_executed import not_executed

FIRST_CONTEXT = 512
"""Tokens of the context a model is loaded with, before it is known how many are needed."""


@contextmanager
def loaded_model(
    model: Path, run: RunOptions, progress: ProgressReport, choice: MethodChoice | None = None
) -> Iterator[tuple[Engine, ModelDescription]]:
    """A started engine with the model loaded in a small context; closed when the block ends.

    Args:
        model: a GGUF file.
        run: how to run it.
        progress: told of the loading.
        choice: a method to run it with; None for what the file carries.

    Raises:
        InputFileError: there is no such file, or it carries a plan and a method is to replace it.
        PlanError: the method does not make a plan for this model.
        EngineError: the engine cannot start, or load it.
    """
    require_file(model)
    options = first_options(model, run, choice)
    with started_engine() as engine:
        with progress.step(f"loading {model.name}", Measure()) as update:
            description = engine.load(model, options, lambda done: update(done, 1.0))
        yield engine, description


@contextmanager
def started_engine() -> Iterator[Engine]:
    """A started engine without a model; closed when the block ends.

    Raises:
        EngineError: it cannot start.
    """
    with Engine.start() as engine:
        yield engine


def first_options(model: Path, run: RunOptions, choice: MethodChoice | None) -> EngineOptions:
    """How to load a model in a small context, with the plan that a chosen method makes for it.

    Raises:
        InputFileError: the file carries a plan, which a chosen method would be applied on top of, or the
            patched library would not execute the method's plan for its model.
        PlanError: the method does not make a plan for this model.
    """
    options = run.engine_options(FIRST_CONTEXT)
    if choice is None:
        return options
    words = read_model_words(model)
    if words.stored is not None:
        raise InputFileError(
            f"{model} carries a plan already ({words.stored.plan.method}); "
            "name the plain file it was baked from, or leave --method out."
        )
    plan = make_plan(words.spec, choice.method, choice.target_length, choice.train_length, choice.options)
    refused = not_executed(plan, words.header)
    if refused is not None:
        raise InputFileError(f"{model}: {refused.reason}; {refused.remedy}.")
    return dataclasses.replace(options, plan=plan)


def require_file(path: Path) -> None:
    """Refuse a path that is no file.

    Raises:
        InputFileError: nothing is there, or a directory.
    """
    if path.is_dir():
        raise InputFileError(f"{path} is a directory; name a GGUF file in it.")
    if not path.exists():
        raise InputFileError(f"{path}: no such file; check the name.")
