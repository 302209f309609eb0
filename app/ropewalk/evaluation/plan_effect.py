"""What a plan does to a text of some length: two plans with the same effect need no second measurement."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ropewalk_plan import ContextPlan, PositionKind, PositionMap, RopeSpec, ScheduleStep


@dataclass(frozen=True)
class PlanEffect:
    """What is in force while a text of one length is read, as far as it shows.

    Attributes:
        factors: f_i of every pair, F32, shape [n_pairs].
        attention_factor: on rotated q and on rotated k.
        position_map: identity where no position reaches it.
        rope_layers: the layers whose rotation is concerned; None for all, and where nothing of it is changed.
        logn_length: 0 where no position reaches it.
        windows: by layer, 0 where the layer sees the whole text; empty where all do.
        sinks: the first tokens that windowed layers go on seeing.
        streaming: whether positions are those within the cache.
    """

    factors: tuple[float, ...]
    attention_factor: float
    position_map: PositionMap = field(default_factory=PositionMap)
    rope_layers: tuple[int, ...] | None = None
    logn_length: int = 0
    windows: tuple[int, ...] = ()
    sinks: int = 0
    streaming: bool = False


def plan_effect(plan: ContextPlan | None, spec: RopeSpec, length: int) -> PlanEffect:
    """The effect of a plan on a text for whose length the context is reserved.

    Args:
        plan: None for the plain model.
        spec: the model's own rotation.
        length: tokens.
    """
    own = PlanEffect(_f32(spec.own_factors), float(np.float32(spec.own_attention_factor)))
    if plan is None:
        return own
    step = _step_at(plan, length)
    windows = tuple(window if 0 < window < length - plan.sinks else 0 for window in plan.windows)
    windowed = any(windows)
    factors = own.factors if step is None else step.frequency_factors
    attention_factor = own.attention_factor if step is None else step.attention_factor
    position_map = plan.position_map if _is_mapped(plan.position_map, length) else PositionMap()
    rotation = (factors, attention_factor, position_map)
    return PlanEffect(
        factors=factors,
        attention_factor=attention_factor,
        position_map=position_map,
        rope_layers=None
        if rotation == (own.factors, own.attention_factor, PositionMap())
        else plan.rope_layers,
        logn_length=plan.logn_length if plan.logn_length < length else 0,
        windows=windows if windowed else (),
        sinks=plan.sinks if windowed else 0,
        streaming=plan.streaming and windowed,
    )


def effects(plan: ContextPlan | None, spec: RopeSpec, lengths: tuple[int, ...]) -> tuple[PlanEffect, ...]:
    """The effect on texts of each of these lengths."""
    return tuple(plan_effect(plan, spec, length) for length in lengths)


def step_ends(plan: ContextPlan | None) -> tuple[int, ...]:
    """The lengths at which what is in force changes, none for a plan whose frequencies stay."""
    return () if plan is None else tuple(step.up_to_length for step in plan.schedule)


def _step_at(plan: ContextPlan, length: int) -> ScheduleStep | None:
    """The step in force; beyond the last one, the last one."""
    return next((step for step in plan.schedule if step.up_to_length >= length), (None, *plan.schedule)[-1])


def _is_mapped(position_map: PositionMap, length: int) -> bool:
    if position_map.kind is PositionKind.IDENTITY:
        return False
    mirrored = position_map.kind is PositionKind.MIRRORED
    return (position_map.period // 2 if mirrored else position_map.period) < length


def _f32(values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(float(np.float32(value)) for value in values)
