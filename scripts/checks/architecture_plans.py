"""The plans that every architecture is tried with, and what each must do to the logits.

Tokens 0 to 95 in one batch; the random models' scores hardly tell one position from another, so a difference
is of the order of rounding, and what is compared is bits: which is the first position that any changes at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ropewalk_plan.plan import ContextPlan, PositionKind, PositionMap, ScheduleStep

TRAIN_LENGTH = 32
TARGET_LENGTH = 128
N_TOKENS = 96
WINDOW = 16
N_SINKS = 4

STREAMING_BLOCK = max(1, WINDOW // 8)  # ubatches are cut at its multiples (patches/README.md)


@dataclass(frozen=True)
class PlanCase:
    """One plan.

    Attributes:
        name: for the table.
        says: what it is, for people.
        make: the plan for a model of (pairs, layers).
        first: the first position whose logits may change in a causal model; None: no bit may change.
        same_as: the case whose logits this one's must equal, bit for bit.
        ubatch: tokens computed at a time; what it is compared with is computed like that too.
        replaces_scaling: whether a scaling of the model's own is replaced, so that every position changes.
    """

    name: str
    says: str
    make: Callable[[int, int], ContextPlan]
    first: int | None
    same_as: str = ""
    ubatch: int = N_TOKENS
    replaces_scaling: bool = True


def step(pairs: int, *, changed: bool, up_to: int = TARGET_LENGTH) -> ScheduleStep:
    """Factors 1, or from 1.5 to 4."""
    factors = np.linspace(1.5, 4.0, pairs) if changed else np.ones(pairs)
    return ScheduleStep(up_to, tuple(float(factor) for factor in factors))


def plan(
    *steps: ScheduleStep,
    position_map: PositionMap | None = None,
    logn_length: int = 0,
    windows: tuple[int, ...] = (),
    streaming: bool = False,
) -> ContextPlan:
    """A plan of these parts."""
    return ContextPlan(
        "check",
        TRAIN_LENGTH,
        TARGET_LENGTH,
        schedule=steps,
        position_map=position_map or PositionMap(),
        logn_length=logn_length,
        windows=windows,
        sinks=N_SINKS if windows else 0,
        streaming=streaming,
    )


CASES = (
    PlanCase("identity", "factors 1", lambda pairs, _: plan(step(pairs, changed=False)), None),
    PlanCase("factors", "factors from 1.5 to 4", lambda pairs, _: plan(step(pairs, changed=True)), 1),
    PlanCase(
        "periodic",
        f"every pair's position modulo {TRAIN_LENGTH}",
        lambda pairs, _: plan(
            step(pairs, changed=False), position_map=PositionMap(PositionKind.PERIODIC, TRAIN_LENGTH, 0)
        ),
        TRAIN_LENGTH,
    ),
    PlanCase(
        "logn",
        f"LogN from position {TRAIN_LENGTH} on",
        lambda _pairs, _: plan(logn_length=TRAIN_LENGTH),
        TRAIN_LENGTH,
        replaces_scaling=False,
    ),
    PlanCase(
        "schedule",
        "factors 1 up to 64 tokens, then 1.5 to 4: equal to `factors`, as the batch is longer",
        lambda pairs, _: plan(step(pairs, changed=False, up_to=64), step(pairs, changed=True)),
        1,
        same_as="factors",
    ),
    PlanCase(
        "windows",
        f"{WINDOW} tokens and {N_SINKS} sinks in every layer",
        lambda _pairs, layers: plan(windows=(WINDOW,) * layers),
        WINDOW + N_SINKS,
        replaces_scaling=False,
    ),
    PlanCase(
        "streaming",
        f"the same with positions within the cache, and factors 1 (in ubatches of {STREAMING_BLOCK})",
        lambda pairs, layers: plan(step(pairs, changed=False), windows=(WINDOW,) * layers, streaming=True),
        WINDOW + N_SINKS,
        ubatch=STREAMING_BLOCK,
    ),
)
