"""`ContextPlan`: everything a context extension changes in one model, as data.

Methods make plans, `metadata` stores and loads them, the patched library executes them.
A plan says *what* is done to each rotary pair, position, query and layer; which method it
came from is a note for people and decides nothing.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import Enum

import numpy as np

SCHEMA = 1
"""Version of the plan's stored form (`ropewalk.schema`)."""

MIN_FACTOR = float(np.float32(1e-6))
"""Below it an F32 angle of a late position stops being a number worth the name."""

MAX_FACTOR = float(np.float32(1e30))
"""The factor of a pair that does not turn: finite, so that no backend's fast math meets an infinity."""


_MAX_ATTENTION_FACTOR = 1e6
_MAX_LENGTH = 2**31 - 1  # positions are I32 in the library

MAX_WINDOW = _MAX_LENGTH // 16
"""The most tokens of a window, and the most sinks: many windows must fit between the positions there are."""


class PlanError(ValueError):
    """A plan that cannot be made or read; the message names the parameter, its value and what is allowed."""


class PositionKind(Enum):
    """How position `m` maps to `p(m)` for the mapped pairs."""

    IDENTITY = "identity"  # p(m) = m
    PERIODIC = "periodic"  # Extra-PE: p(m) = m mod period
    MIRRORED = "mirrored"  # Extra-MPE: q = m mod period; p(m) = q below period/2, else period - q


@dataclass(frozen=True)
class PositionMap:
    """Positions as the pairs from `first_pair` on see them; the pairs below it see the true ones.

    Attributes:
        kind: the shape of `p(m)`.
        period: tokens after which `p` repeats: L for periodic, 2L for mirrored; 0 for identity.
        first_pair: the first mapped pair (0-based, out of `n_rot/2`).
    """

    kind: PositionKind = PositionKind.IDENTITY
    period: int = 0
    first_pair: int = 0


@dataclass(frozen=True)
class ScheduleStep:
    """The rotary factors in force for sequences of up to `up_to_length` tokens.

    Attributes:
        up_to_length: tokens; the last step's is the plan's target length.
        frequency_factors: `n_rot/2` numbers f_i: theta_i = base^(-2i/n_rot) is divided by f_i.
        attention_factor: multiplier on rotated q and on rotated k (YaRN's mscale).
    """

    up_to_length: int
    frequency_factors: tuple[float, ...]
    attention_factor: float = 1.0


@dataclass(frozen=True)
class ContextPlan:
    """A context extension for one model and one target length.

    The factors are relative to `base^(-2i/n_rot)` with the file's own base and replace whatever
    scaling the model had. All numbers are F32 by construction (`create` rounds them), so that
    a plan survives being stored bit for bit.

    Attributes:
        method: the method's name(s) as the command line spells them, joined by `+`; for people.
        options: the options that were in force, `name=value` joined by `,`; for people.
        train_length: L, tokens the model was trained on.
        target_length: L', tokens the plan is made for.
        schedule: one step for a static plan, several (lengths rising, ending at L') for a dynamic one,
            none for a plan that leaves the frequencies as they are.
        rope_layers: the layers whose rotation the plan concerns; None means every layer that rotates
            and sees the whole context (natively sliding layers keep their own).
        position_map: the position map.
        logn_length: LogN's L: q at position m is multiplied by max(1, log_L(m + 1)); 0 for none.
        windows: tokens each layer sees, one per layer, 0 for all; empty for no windows.
        sinks: the first tokens, which windowed layers go on seeing; 0 where there are no windows.
        streaming: whether sinks keep their positions within the cache (StreamingLLM). Every layer then has a
            window, and one step states the factors of all.
    """

    method: str
    train_length: int
    target_length: int
    options: str = ""
    schedule: tuple[ScheduleStep, ...] = ()
    rope_layers: tuple[int, ...] | None = None
    position_map: PositionMap = PositionMap()
    logn_length: int = 0
    windows: tuple[int, ...] = ()
    sinks: int = 0
    streaming: bool = False

    def __post_init__(self) -> None:
        """Round every number to F32 and check that the parts belong together."""
        object.__setattr__(self, "schedule", tuple(_as_f32(step) for step in self.schedule))
        _check(self)

    @property
    def scale(self) -> float:
        """The scale s = L'/L."""
        return self.target_length / self.train_length

    @property
    def n_pairs(self) -> int:
        """`n_rot/2` where the plan holds factors, else 0."""
        return len(self.schedule[0].frequency_factors) if self.schedule else 0

    @property
    def frequency_factors(self) -> tuple[float, ...]:
        """The factors in force at the target length; empty where the plan leaves the frequencies alone."""
        return self.schedule[-1].frequency_factors if self.schedule else ()

    @property
    def attention_factor(self) -> float:
        """The attention factor in force at the target length."""
        return self.schedule[-1].attention_factor if self.schedule else 1.0

    @property
    def changes_within_train_length(self) -> bool:
        """Whether tokens below L are computed otherwise than by a plain model.

        A model with a scaling of its own has it repeated in the factors, and that counts as a change here. Of
        a schedule the steps count that are in force for some length up to L.
        """
        length = self.train_length
        later = [step.up_to_length for step in self.schedule if step.up_to_length >= length]
        turned = any(
            set(step.frequency_factors) != {1.0} or step.attention_factor != 1.0
            for step in self.schedule
            if step.up_to_length <= later[0]
        )
        windowed = any(0 < window < length - self.sinks for window in self.windows)
        scaled = 0 < self.logn_length < length
        return turned or windowed or scaled or _repeats_within(self.position_map, length)


def _repeats_within(position_map: PositionMap, length: int) -> bool:
    """Whether `p(m)` is another position than m for some m below `length`."""
    if position_map.kind is PositionKind.IDENTITY:
        return False
    mirrored = position_map.kind is PositionKind.MIRRORED
    return (position_map.period // 2 if mirrored else position_map.period) < length


def _as_f32(step: ScheduleStep) -> ScheduleStep:
    return dataclasses.replace(
        step,
        frequency_factors=tuple(float(np.float32(f)) for f in step.frequency_factors),
        attention_factor=float(np.float32(step.attention_factor)),
    )


def _check(plan: ContextPlan) -> None:
    _check_lengths(plan)
    _check_schedule(plan)
    _check_position_map(plan)
    if plan.logn_length == 1 or plan.logn_length < 0:
        raise PlanError(f"logn_length is {plan.logn_length}; it must be 0 (off) or at least 2")
    _check_windows(plan)
    if plan.streaming:
        _check_streaming(plan)


def _check_windows(plan: ContextPlan) -> None:
    for window in plan.windows:
        if not 0 <= window <= MAX_WINDOW:
            raise PlanError(
                f"windows has {window}; each must be 0 (all) or a number of tokens up to {MAX_WINDOW}"
            )
    if not 0 <= plan.sinks <= MAX_WINDOW:
        raise PlanError(f"sinks is {plan.sinks}; it must be from 0 to {MAX_WINDOW}")
    if plan.sinks and not any(plan.windows):
        raise PlanError(f"sinks is {plan.sinks} and no layer has a window; sinks go with windows only")


def _check_streaming(plan: ContextPlan) -> None:
    """A stream has no beginning to count from, and no length that frequencies could follow."""
    if not plan.windows:
        raise PlanError("streaming is on without windows; it needs a window for every layer")
    if not all(plan.windows):
        raise PlanError(
            f"streaming is on and layer {plan.windows.index(0)} has no window; it needs one for every layer"
        )
    if len(plan.schedule) != 1:
        raise PlanError(
            f"streaming is on with {len(plan.schedule)} schedule steps; it needs one, with its factors"
        )
    if plan.rope_layers is not None:
        raise PlanError("streaming is on for some layers' rotation; its factors must concern every layer")
    if plan.position_map.kind is not PositionKind.IDENTITY:
        raise PlanError(
            "streaming is on with a position map, which counts from the text's start; drop one of them"
        )
    if plan.logn_length:
        raise PlanError("streaming is on with LogN, which counts from the text's start; drop one of them")


def _check_lengths(plan: ContextPlan) -> None:
    if plan.train_length <= 0:
        raise PlanError(f"train_length is {plan.train_length}; it must be a positive number of tokens")
    if plan.target_length > _MAX_LENGTH or plan.logn_length > _MAX_LENGTH:
        longest = max(plan.target_length, plan.logn_length)
        raise PlanError(f"a length of the plan is {longest}; positions end at {_MAX_LENGTH}")
    if plan.target_length < plan.train_length:
        raise PlanError(
            f"target_length is {plan.target_length}; it must be at least the train length {plan.train_length}"
        )


def _check_schedule(plan: ContextPlan) -> None:
    if not plan.schedule:
        return
    lengths = [step.up_to_length for step in plan.schedule]
    if lengths != sorted(set(lengths)) or lengths[-1] != plan.target_length:
        raise PlanError(f"schedule lengths are {lengths}; they must rise and end at {plan.target_length}")
    for step in plan.schedule:
        if len(step.frequency_factors) != plan.n_pairs or plan.n_pairs == 0:
            raise PlanError(
                f"a schedule step has {len(step.frequency_factors)} factors; "
                f"it must have {plan.n_pairs or 'some'}"
            )
        if not all(MIN_FACTOR <= f <= MAX_FACTOR for f in step.frequency_factors):
            raise PlanError(f"frequency factors must be from {MIN_FACTOR:g} to {MAX_FACTOR:g}")
        if not MIN_FACTOR <= step.attention_factor <= _MAX_ATTENTION_FACTOR:
            raise PlanError(
                f"attention_factor is {step.attention_factor}; "
                f"it must be from {MIN_FACTOR:g} to {_MAX_ATTENTION_FACTOR:g}"
            )


def _check_position_map(plan: ContextPlan) -> None:
    position_map = plan.position_map
    if position_map.kind is PositionKind.IDENTITY:
        if position_map != PositionMap():
            raise PlanError("an identity position map has no period and no first pair")
        return
    odd = position_map.kind is PositionKind.MIRRORED and position_map.period % 2 == 1
    if odd or not 2 <= position_map.period <= _MAX_LENGTH:
        raise PlanError(
            f"position period is {position_map.period}; it must be from 2 to {_MAX_LENGTH}, "
            "and even when mirrored"
        )
    if not plan.schedule or not 0 <= position_map.first_pair < plan.n_pairs:
        raise PlanError(
            f"position first_pair is {position_map.first_pair}; "
            f"it must name one of the plan's {plan.n_pairs} pairs"
        )
