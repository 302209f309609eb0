"""The plans under which every mode is tried, each with what its numbers make of a position.

One of each kind: factors with an attention factor, both position maps, LogN, a schedule whose length is
reserved, all of these at once, and factors for one layer of two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import llama_cpp
import numpy as np
from gguf import GGUFWriter

from reference_memory import InForce
from reference_transformer import Float64, Positions, plain_frequencies
from ropewalk.backend import context_plan
from ropewalk_plan import ContextPlan, PositionKind, PositionMap, ScheduleStep
from tiny_models import Architecture, TinyModel, write_tiny_model

TRAIN_LENGTH = 64
TARGET_LENGTH = 256
HEAD_DIM = 64
N_PAIRS = HEAD_DIM // 2
FIRST_PAIR = 9
"""Wavelengths above 80 tokens: what a period of 64 does to these pairs is seen in the logits."""

_LENGTHS = (64, 96, 144, 256)


def _factors(scale: float) -> tuple[float, ...]:
    """Rising from 1 to `scale`; any would do."""
    return tuple(scale ** (np.arange(N_PAIRS) / (N_PAIRS - 1)))


def _steps(attention: float = 1.0) -> tuple[ScheduleStep, ...]:
    return tuple(
        ScheduleStep(length, _factors(length / TRAIN_LENGTH), 1.0 + attention * 0.05 * i)
        for i, length in enumerate(_LENGTHS)
    )


_IDENTITY = PositionMap()
_STATIC = (ScheduleStep(TARGET_LENGTH, _factors(4.0), 1.15),)
_PERIODIC = PositionMap(PositionKind.PERIODIC, TRAIN_LENGTH, FIRST_PAIR)
_MIRRORED = PositionMap(PositionKind.MIRRORED, 2 * TRAIN_LENGTH, FIRST_PAIR)


def _plan(
    name: str,
    *,
    schedule: tuple[ScheduleStep, ...] = (),
    position_map: PositionMap = _IDENTITY,
    logn: bool = False,
    layers: tuple[int, ...] | None = None,
) -> ContextPlan:
    return ContextPlan(
        name,
        TRAIN_LENGTH,
        TARGET_LENGTH,
        schedule=schedule,
        position_map=position_map,
        logn_length=TRAIN_LENGTH if logn else 0,
        rope_layers=layers,
    )


PLANS: dict[str, ContextPlan] = {
    plan.method: plan
    for plan in (
        _plan("factors", schedule=_STATIC),
        _plan("periodic", schedule=_STATIC[:1], position_map=_PERIODIC),
        _plan("mirrored", schedule=(ScheduleStep(TARGET_LENGTH, (1.0,) * N_PAIRS),), position_map=_MIRRORED),
        _plan("logn", logn=True),
        _plan("schedule", schedule=_steps()),
        _plan("all", schedule=_steps(), position_map=_PERIODIC, logn=True),
        _plan("one-layer", schedule=_STATIC, position_map=_MIRRORED, layers=(1,)),
    )
}


@dataclass(frozen=True)
class Reservation:
    """The plan to set on a model, and the length to reserve in each of its contexts."""

    plan: ContextPlan | None
    length: int

    def on_model(self, handle: llama_cpp.llama_model_p) -> None:
        """Sets the plan: `prepare` of `library_logits.loaded`."""
        if self.plan is not None:
            context_plan.set_plan(handle, self.plan)

    def in_context(self, handle: llama_cpp.llama_context_p) -> None:
        """Reserves the length."""
        if self.plan is not None:
            context_plan.reserve(handle, self.length)


def write_model(
    path: Path, arch: Architecture, *, extra_keys: Callable[[GGUFWriter], None] | None = None
) -> TinyModel:
    """Heads of 64 numbers, which llama.cpp rotates by a Hadamard matrix where it quantizes them."""
    return write_tiny_model(
        path,
        arch=arch,
        n_embd=128,
        n_head=4,
        n_head_kv=2,
        head_dim=HEAD_DIM,
        train_length=TRAIN_LENGTH,
        query_deviation=1.2,
        seed=21,
        extra_keys=extra_keys,
    )


def in_force(model: TinyModel, plan: ContextPlan | None, length: int) -> InForce:
    """What the plan's equations make of positions while the longest sequence, or reservation, is `length`."""

    def positions(layer: int, m: Float64) -> Positions:
        return _positions(model, plan, length, layer, m)

    return positions


def _positions(model: TinyModel, plan: ContextPlan | None, length: int, layer: int, m: Float64) -> Positions:
    theta = plain_frequencies(model)
    if plan is None:
        return Positions(np.outer(m, theta))
    query = None
    if plan.logn_length:
        query = np.maximum(1.0, np.log(m + 1.0) / np.log(plan.logn_length))
    if not plan.schedule or (plan.rope_layers is not None and layer not in plan.rope_layers):
        return Positions(np.outer(m, theta), query_factor=query)
    step = next((s for s in plan.schedule if s.up_to_length >= length), plan.schedule[-1])
    theta = theta / np.asarray(step.frequency_factors)
    mapped = np.arange(N_PAIRS) >= plan.position_map.first_pair
    angles = np.where(mapped, np.outer(_MAPS[plan.position_map.kind](m), theta), np.outer(m, theta))
    return Positions(angles, step.attention_factor, query)


def _mirrored(m: Float64) -> Float64:
    q = m % (2 * TRAIN_LENGTH)
    return np.asarray(np.where(q < TRAIN_LENGTH, q, 2 * TRAIN_LENGTH - q))


_MAPS: dict[PositionKind, Callable[[Float64], Float64]] = {
    PositionKind.IDENTITY: lambda m: m,
    PositionKind.PERIODIC: lambda m: np.asarray(m % TRAIN_LENGTH),
    PositionKind.MIRRORED: _mirrored,
}


def random_tokens(count: int, seed: int) -> list[int]:
    """Without the special ones."""
    return [int(token) for token in np.random.default_rng(seed).integers(3, 360, count)]
