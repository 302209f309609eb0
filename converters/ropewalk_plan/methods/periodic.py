"""Extra-PE and Extra-MPE: beyond L the slow pairs see positions again that they have seen in training.

Symbols: `d_extra = 2 ceil((d/2) log_base(L / 2 pi))`, twice the number of pairs that complete a turn within
L (the critical dimension); pairs i >= d_extra/2 - 1 are mapped. On a model that scales already the turns
are those of its own frequencies. The frequencies stay the trained ones: the schedule holds the
model's own factors, because a plan is total.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from ropewalk_plan.methods.method import Aspect, Extension, MethodInfo, PlanPart
from ropewalk_plan.methods.options import OptionValue
from ropewalk_plan.plan import PlanError, PositionKind, PositionMap

_TUNING = (
    "its paper finds results without fine-tuning relatively poor, and improvement only after training "
    "on at least 4 times the train length"
)


def build_extra_pe(extension: Extension, options: Mapping[str, OptionValue]) -> PlanPart:
    """Extra-PE (Long-context Extrapolation via Periodic Extension, Eq. 4): p(m) = m mod L."""
    del options
    return _mapped(extension, PositionKind.PERIODIC, extension.train_length)


def build_extra_mpe(extension: Extension, options: Mapping[str, OptionValue]) -> PlanPart:
    """Extra-MPE (same paper, Eqs. 5 to 8): with q = m mod 2L, p(m) = q below L, else 2L - q.

    At q = L the paper's two branches meet: both give L.
    """
    del options
    return _mapped(extension, PositionKind.MIRRORED, 2 * extension.train_length)


def first_mapped_pair(extension: Extension) -> int:
    """`d_extra/2 - 1`: the first pair that the periodic maps turn by p(m) (45 for LLaMA-2), at least 0."""
    complete = math.ceil(extension.spec.pair_at_rotations(extension.train_length, 1.0))
    return max(0, complete - 1)


def _mapped(extension: Extension, kind: PositionKind, period: int) -> PlanPart:
    schedule = extension.unchanged()
    if not extension.extends:
        return PlanPart(schedule=schedule)  # no position is beyond L: the map is the identity
    first = first_mapped_pair(extension)
    if first >= extension.spec.n_pairs:
        raise PlanError(
            f"train_length is {extension.train_length}; every pair of this model completes a turn within it, "
            "so a periodic position map has no pair to act on: choose another method"
        )
    return PlanPart(schedule=schedule, position_map=PositionMap(kind, period, first))


EXTRA_PE = MethodInfo(
    name="extra-pe",
    summary="repeats the trained positions beyond the train length, for pairs that never complete a turn",
    source="Long-context Extrapolation via Periodic Extension, Eq. 4",
    sets=frozenset({Aspect.FREQUENCIES, Aspect.POSITIONS}),
    build=build_extra_pe,
    untuned_scale=1.0,
    tuning=_TUNING,
)

EXTRA_MPE = MethodInfo(
    name="extra-mpe",
    summary="mirrors the trained positions beyond the train length, for pairs that never complete a turn",
    source="Long-context Extrapolation via Periodic Extension, Eqs. 5 to 8",
    sets=frozenset({Aspect.FREQUENCIES, Aspect.POSITIONS}),
    build=build_extra_mpe,
    untuned_scale=1.0,
    tuning=_TUNING,
)
