"""What a method is: a description for people, options, and a function that makes its part of a plan."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from ropewalk_plan.plan import MAX_FACTOR, PlanError, PositionMap, ScheduleStep
from ropewalk_plan.rope_spec import FloatArray, RopeSpec

OptionValue = float | int | str | None


class Aspect(Enum):
    """The parts of a plan; two methods that set the same one contradict each other."""

    FREQUENCIES = "the rotary frequencies"
    POSITIONS = "the position map"
    QUERIES = "the scale of queries"


@dataclass(frozen=True)
class Extension:
    """What is to be extended, and how far.

    Attributes:
        spec: the model's own rotation.
        train_length: L.
        target_length: L', at least L.
    """

    spec: RopeSpec
    train_length: int
    target_length: int

    @property
    def scale(self) -> float:
        """The scale s = L'/L."""
        return self.target_length / self.train_length

    def static(self, factors: FloatArray, attention_factor: float = 1.0) -> tuple[ScheduleStep, ...]:
        """A one-step schedule that divides the model's own frequencies by `factors`.

        Args:
            factors: relative to the model's own frequencies, shape [n_pairs].
            attention_factor: relative to the model's own.
        """
        return (
            ScheduleStep(
                up_to_length=self.target_length,
                frequency_factors=tuple(
                    float(f) for f in np.minimum(self.spec.factors * factors, MAX_FACTOR)
                ),
                attention_factor=self.spec.own_attention_factor * attention_factor,
            ),
        )


@dataclass(frozen=True)
class PlanPart:
    """What one method says of a plan; what it leaves out, it leaves as it is."""

    schedule: tuple[ScheduleStep, ...] = ()
    position_map: PositionMap = field(default_factory=PositionMap)
    logn_length: int = 0


@dataclass(frozen=True)
class OptionInfo:
    """One option of a method.

    Attributes:
        name: as in `--method-option name=value`.
        default: what it is when not given, as one would type it.
        allowed: the values it takes, in words.
        source: where default and meaning come from.
        parse: text to value; None where the text is not allowed. A parsed value may itself be None ("off").
    """

    name: str
    default: str
    allowed: str
    source: str
    parse: Callable[[str], tuple[OptionValue] | None]


@dataclass(frozen=True)
class MethodInfo:
    """One method of the literature.

    Attributes:
        name: as the command line spells it.
        summary: what it does, in a sentence.
        source: paper and equation.
        sets: the aspects of a plan it decides.
        build: makes its part of a plan.
        options: its options.
        untuned_scale: the scale up to which it is good without fine-tuning, by its paper and ours;
            infinity where it needs none.
        tuning: what the papers say about fine-tuning; empty where it needs none.
    """

    name: str
    summary: str
    source: str
    sets: frozenset[Aspect]
    build: Callable[[Extension, Mapping[str, OptionValue]], PlanPart]
    options: tuple[OptionInfo, ...] = ()
    untuned_scale: float = math.inf
    tuning: str = ""

    @property
    def needs_finetuning(self) -> bool:
        """Whether a model must be fine-tuned for the method to be good, at least beyond some scale."""
        return math.isfinite(self.untuned_scale)


def number_option(
    name: str, default: float, allowed: str, source: str, accept: Callable[[float], bool]
) -> OptionInfo:
    """An option that is a finite number."""

    def parse(text: str) -> tuple[OptionValue] | None:
        value = _number(text)
        return (value,) if value is not None and accept(value) else None

    return OptionInfo(name, f"{default:g}", allowed, source, parse)


def optional_number(
    name: str, absent: str, allowed: str, source: str, accept: Callable[[float], bool]
) -> OptionInfo:
    """An option that is a finite number, or by default absent (the word `absent`, None when parsed)."""

    def parse(text: str) -> tuple[OptionValue] | None:
        if text == absent:
            return (None,)
        value = _number(text)
        return (value,) if value is not None and accept(value) else None

    return OptionInfo(name, absent, allowed, source, parse)


def choice_option(name: str, default: str, choices: tuple[str, ...], source: str) -> OptionInfo:
    """An option that is one of a few words."""

    def parse(text: str) -> tuple[OptionValue] | None:
        return (text,) if text in choices else None

    return OptionInfo(name, default, " or ".join(choices), source, parse)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def as_number(options: Mapping[str, OptionValue], name: str) -> float:
    """A parsed option that is always a number."""
    value = options[name]
    if not isinstance(value, (int, float)):
        raise PlanError(f"option {name} is {value!r}; it must be a number")
    return float(value)


def as_optional_number(options: Mapping[str, OptionValue], name: str) -> float | None:
    """A parsed option that is a number or absent."""
    return None if options[name] is None else as_number(options, name)
