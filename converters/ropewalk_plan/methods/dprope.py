"""DPRoPE: interpolate only the pairs whose angle distribution extrapolation disturbs more."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ropewalk_plan.disturbance import DEFAULT_BINS, Direction, pair_disturbances
from ropewalk_plan.methods.method import (
    Aspect,
    Extension,
    MethodInfo,
    OptionValue,
    PlanPart,
    as_number,
    as_optional_number,
    choice_option,
    number_option,
    optional_number,
)
from ropewalk_plan.plan import PlanError
from ropewalk_plan.rope_spec import FloatArray

DEFAULT_THRESHOLD = 1e-4


def build_dprope(extension: Extension, options: Mapping[str, OptionValue]) -> PlanPart:
    """DPRoPE (Wu et al. 2024, Section 3.2, Eqs. 8 and 9): f_i = s on the interpolated pairs, else 1.

    A pair is interpolated where `D_i(extrapolated) - D_i(interpolated) > threshold`, D_i being the
    disturbance of `ropewalk_plan.disturbance` (see there for the direction of the divergence, which
    departs from the text). Or, with `interpolated_dims = N`, the N/2 pairs with the largest difference
    are (the paper counts dimensions, two to a pair: 80 of 128 at 8k, 64 at 16k).
    `max_rotations` is not in the paper: it keeps pairs that make more turns than that within L as they
    are, whatever their disturbance.
    """
    spec, scale = extension.spec, extension.scale
    direction = Direction(options["direction"])
    bins = int(as_number(options, "bins"))

    def disturbances(frequencies: FloatArray) -> FloatArray:
        return pair_disturbances(
            spec.frequencies,
            frequencies,
            extension.train_length,
            extension.target_length,
            bins=bins,
            direction=direction,
        )

    gain = disturbances(spec.frequencies) - disturbances(spec.frequencies / scale)
    max_rotations = as_optional_number(options, "max_rotations")
    if max_rotations is not None:
        turns = spec.frequencies * extension.train_length / (2.0 * np.pi)
        gain = np.where(turns > max_rotations, -np.inf, gain)
    dims = as_optional_number(options, "interpolated_dims")
    interpolated = gain > as_number(options, "threshold") if dims is None else _largest(gain, int(dims))
    return PlanPart(schedule=extension.static(np.where(interpolated, scale, 1.0)))


def _largest(gain: FloatArray, dims: int) -> npt.NDArray[np.bool_]:
    """The `dims/2` pairs with the largest gain; of equal ones the slower (higher) pairs."""
    available = int(np.sum(np.isfinite(gain)))
    if dims // 2 > available:
        raise PlanError(
            f"option interpolated_dims is {dims}; it must be at most {2 * available}, "
            "the rotated dimensions that may be interpolated"
        )
    slower_first = np.arange(len(gain))[::-1]
    order = slower_first[np.argsort(-gain[slower_first], kind="stable")]
    chosen = np.zeros(len(gain), dtype=np.bool_)
    chosen[order[: dims // 2]] = True
    return chosen


DPROPE = MethodInfo(
    name="dprope",
    summary="interpolates only the pairs whose distribution of angles extrapolation disturbs more",
    source="DPRoPE, Wu et al. 2024, Eqs. 8 and 9",
    sets=frozenset({Aspect.FREQUENCIES}),
    build=build_dprope,
    options=(
        number_option(
            "threshold",
            DEFAULT_THRESHOLD,
            "a number of nats, 0 or more",
            "Eq. 9; the value is ours, between the paper's settings",
            lambda value: value >= 0,
        ),
        optional_number(
            "interpolated_dims",
            "off",
            "off, or an even number of dimensions from 0 to n_rot (then threshold is not used)",
            "Section 5.2; 80 of 128 at 8k, 64 at 16k",
            lambda value: value >= 0 and value % 2 == 0,
        ),
        number_option(
            "bins",
            DEFAULT_BINS,
            "a whole number from 2 to 65536",
            "Section 5.3 (b)",
            lambda value: 2 <= value <= 65536 and value == int(value),
        ),
        choice_option(
            "direction",
            Direction.ORIGINAL_EXTENDED.value,
            tuple(direction.value for direction in Direction),
            "Table 3 and the published code; the text of Eq. 8 reads as the other",
        ),
        optional_number(
            "max_rotations",
            "off",
            "off, or a number of turns within L above 0",
            "ours: protects pairs that tell neighbouring tokens apart",
            lambda value: value > 0,
        ),
    ),
)
