"""What a method is: a description for people, options, and a function that makes its part of a plan."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from ropewalk_plan.methods.options import OptionInfo, OptionValue
from ropewalk_plan.plan import MAX_FACTOR, PositionMap, ScheduleStep
from ropewalk_plan.rope_spec import FloatArray, RopeSpec


class Aspect(Enum):
    """The parts of a plan; two methods that set the same one contradict each other."""

    FREQUENCIES = "the rotary frequencies"
    GROWTH = "how the frequencies change with the length"
    POSITIONS = "the position map"
    QUERIES = "the scale of queries"
    WINDOWS = "which tokens a layer sees"


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

    @property
    def extends(self) -> bool:
        """Whether L' is beyond L: where it is not, every method leaves the model as it is."""
        return self.target_length > self.train_length

    def step(self, up_to_length: int, factors: FloatArray, attention_factor: float = 1.0) -> ScheduleStep:
        """A step of a schedule that divides the model's own frequencies by `factors`.

        Args:
            up_to_length: tokens up to which it is in force.
            factors: relative to the model's own frequencies, shape [n_pairs].
            attention_factor: relative to the model's own.
        """
        return ScheduleStep(
            up_to_length=up_to_length,
            frequency_factors=tuple(float(f) for f in np.minimum(self.spec.factors * factors, MAX_FACTOR)),
            attention_factor=self.spec.own_attention_factor * attention_factor,
        )

    def static(self, factors: FloatArray, attention_factor: float = 1.0) -> tuple[ScheduleStep, ...]:
        """A schedule of one `step`, in force up to the target length."""
        return (self.step(self.target_length, factors, attention_factor),)

    def unchanged(self) -> tuple[ScheduleStep, ...]:
        """A schedule of one step with the model's own factors."""
        return self.static(np.ones(self.spec.n_pairs))


@dataclass(frozen=True)
class PlanPart:
    """What one method says of a plan; what it leaves out, it leaves as it is.

    The layers that frequencies and position map concern (`rope_layers`) may be said by a method that sets
    neither of the two.
    """

    schedule: tuple[ScheduleStep, ...] = ()
    rope_layers: tuple[int, ...] | None = None
    position_map: PositionMap = field(default_factory=PositionMap)
    logn_length: int = 0
    windows: tuple[int, ...] = ()
    sinks: int = 0
    streaming: bool = False


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
        excludes: aspects that no method beside it may set although it does not set them itself, and why
            in a clause.
        sweep: values of options worth trying side by side, by the option's name, where no paper settles one.
    """

    name: str
    summary: str
    source: str
    sets: frozenset[Aspect]
    build: Callable[[Extension, Mapping[str, OptionValue]], PlanPart]
    options: tuple[OptionInfo, ...] = ()
    untuned_scale: float = math.inf
    tuning: str = ""
    excludes: Mapping[Aspect, str] = field(default_factory=dict)
    sweep: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def needs_finetuning(self) -> bool:
        """Whether a model must be fine-tuned for the method to be good, at least beyond some scale."""
        return math.isfinite(self.untuned_scale)
