"""Which model a plan is to be made for: a GGUF file, a checkpoint folder, or bare numbers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

from ropewalk.cli.failures import InputFileError
from ropewalk.wording.errors import one_line
from ropewalk_plan import (
    GgufHeader,
    ModelFacts,
    PlanError,
    RopeSpec,
    model_facts_from_gguf,
    read_plan,
    rope_spec_from_gguf,
)
from ropewalk_plan.checkpoint import rope_spec_from_checkpoint

_ASSUMED_ARCHITECTURE = "llama"
_NUMBERS = ("--head-dim", "--rope-base", "--train-length")

Verb = Callable[..., None]


@dataclass(frozen=True)
class RotationNumbers:
    """A plain rotation as the command line gives it, in place of a model."""

    head_dim: int | None
    rope_base: float | None
    layers: int


def source_options(verb: Verb) -> Verb:
    """Give a verb the options that stand in for a model; it receives them as `numbers`."""

    @functools.wraps(verb)
    def with_numbers(*, head_dim: int | None, rope_base: float | None, layers: int, **others: object) -> None:
        verb(numbers=RotationNumbers(head_dim, rope_base, layers), **others)

    decorated: Verb = with_numbers
    for option in (
        click.option(
            "--layers",
            type=click.IntRange(1),
            default=32,
            help="Without MODEL: layers, for methods that differ by layer [default: 32].",
        ),
        click.option("--rope-base", type=float, help="Without MODEL: the rotary base."),
        click.option("--head-dim", type=int, help="Without MODEL: rotated dimensions of a head."),
    ):
        decorated = option(decorated)
    return decorated


def read_source(
    model: Path | None, numbers: RotationNumbers, train_length: int | None
) -> tuple[RopeSpec, ModelFacts]:
    """What a plan is made from.

    Raises:
        UsageError: neither a model nor all the numbers, or both.
        InputFileError: the model cannot be read, has no RoPE, or carries a plan already.
        PlanError: numbers that no rotary model can have.
    """
    given = numbers.head_dim is not None or numbers.rope_base is not None
    if model is not None:
        if given:
            raise click.UsageError(
                "MODEL says its own --head-dim and --rope-base: leave out the one or the other",
                click.get_current_context(),
            )
        return _read(model)
    values = (numbers.head_dim, numbers.rope_base, train_length)
    missing = [name for name, value in zip(_NUMBERS, values, strict=True) if value is None]
    if numbers.head_dim is None or numbers.rope_base is None or train_length is None:
        wanted = f"without it, {' and '.join(missing)} must be given" if given else "or the numbers of one"
        raise click.UsageError(
            f"Missing MODEL, a GGUF file or a checkpoint folder: {wanted}", click.get_current_context()
        )
    spec = RopeSpec(
        _ASSUMED_ARCHITECTURE, numbers.head_dim, numbers.rope_base, train_length, n_layer=numbers.layers
    )
    return spec, _facts_without_a_file(spec)


def _read(model: Path) -> tuple[RopeSpec, ModelFacts]:
    if not model.exists():
        raise InputFileError(f"{model}: no such file or folder; check the name")
    try:
        if model.is_dir():
            spec = rope_spec_from_checkpoint(model)
            return spec, _facts_without_a_file(spec)
        header = GgufHeader.read(model)
        stored = read_plan(header)
        spec, facts = rope_spec_from_gguf(header), model_facts_from_gguf(header)
    except PlanError as error:
        message = one_line(str(error))
        raise InputFileError(message if str(model) in message else f"{model}: {message}") from error
    if stored is not None:
        raise InputFileError(
            f"{model} carries a plan already ({stored.plan.method}), which `ropewalk inspect` shows; "
            "plan from the plain file"
        )
    return spec, facts


def _facts_without_a_file(spec: RopeSpec) -> ModelFacts:
    """What a GGUF file made from this model would say."""
    own = spec.own_scaling
    return ModelFacts(
        architecture=spec.architecture,
        context_length=spec.train_length,
        original_length=(own.original_length if own else None) or spec.train_length,
        scaling_type=own.kind if own and own.kind in ("linear", "yarn", "longrope") else "linear",
        has_factors=own is not None and own.kind == "llama3",
        sliding_window=0,
    )
