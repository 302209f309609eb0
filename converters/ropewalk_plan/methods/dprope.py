"""DPRoPE: interpolate only the pairs whose angle distribution extrapolation disturbs more."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from ropewalk_plan.base_formula import ntk_factors
from ropewalk_plan.disturbance import DEFAULT_BINS, Direction, pair_disturbances
from ropewalk_plan.methods.method import Aspect, Extension, MethodInfo, PlanPart
from ropewalk_plan.methods.options import (
    OptionValue,
    as_number,
    as_optional_number,
    as_words,
    choice_option,
    number_option,
    optional_number,
    words_option,
)
from ropewalk_plan.plan import PlanError
from ropewalk_plan.rope_spec import FloatArray
from ropewalk_plan.yarn_formula import yarn_factors

DEFAULT_THRESHOLD = 1e-4

EXTRAPOLATION = "extrapolation"

_FACTORS: Mapping[str, Callable[[Extension], FloatArray]] = {
    "interpolation": lambda extension: np.full(extension.spec.n_pairs, extension.scale),
    EXTRAPOLATION: lambda extension: np.ones(extension.spec.n_pairs),
    "ntk": lambda extension: ntk_factors(extension.spec.n_rot, extension.scale),
    "yarn": lambda extension: yarn_factors(extension.spec, extension.scale, extension.train_length),
}
"""The candidates: f_i relative to the model's own frequencies. Of equally good ones the first is taken."""


def build_dprope(extension: Extension, options: Mapping[str, OptionValue]) -> PlanPart:
    """DPRoPE (Wu et al. 2024, Section 3.2, Eqs. 8 and 9): f_i = s on the interpolated pairs, else 1.

    A pair is interpolated where `D_i(extrapolated) - D_i(interpolated) > threshold`, D_i being the
    disturbance of `ropewalk_plan.disturbance` (see there for the direction of the divergence, which
    departs from the text). Or, with `interpolated_dims = N`, the N/2 pairs with the largest difference
    are (the paper counts dimensions, two to a pair: 80 of 128 at 8k, 64 at 16k).

    Steps past the paper, off by default. `max_rotations` keeps pairs that make more turns than that within
    L as they are, whatever their disturbance. `strategies` names more candidates per pair, which the authors
    leave open: `ntk` and `yarn` are the factors of these methods (without YaRN's attention factor), and of
    all but `extrapolation` the least disturbing stands where interpolation stood above. By the paper's
    measure they bring little: in its settings (LLaMA-2 to 8k and 16k) no pair chooses one, and Table 3's 6.71
    and 22.94 stay. At scales that are no whole number a pair may: `ntk` for one of LLaMA-2's at 1.25 gives
    3.43 instead of 3.55. The periodic maps are no candidates: their disturbance is 0 by construction.

    Raises:
        PlanError: `interpolated_dims` or `max_rotations` without `extrapolation` among the strategies, or
            more dimensions than there are.
    """
    spec, strategies = extension.spec, as_words(options, "strategies")
    candidates = {name: _FACTORS[name](extension) for name in strategies}
    disturbances = {name: _disturbances(extension, options, f) for name, f in candidates.items()}
    others = [name for name in strategies if name != EXTRAPOLATION]
    best = np.argmin([disturbances[name] for name in others], axis=0)
    least = np.min([disturbances[name] for name in others], axis=0)
    factors = np.choose(best, [candidates[name] for name in others])
    dims, max_rotations = (
        as_optional_number(options, name) for name in ("interpolated_dims", "max_rotations")
    )
    if EXTRAPOLATION not in strategies:
        _refuse_without_extrapolation(interpolated_dims=dims, max_rotations=max_rotations)
        return PlanPart(schedule=extension.static(factors))
    gain = disturbances[EXTRAPOLATION] - least
    if max_rotations is not None:
        turns = spec.frequencies * extension.train_length / (2.0 * np.pi)
        gain = np.where(turns > max_rotations, -np.inf, gain)
    moved = gain > as_number(options, "threshold") if dims is None else _largest(gain, int(dims))
    return PlanPart(schedule=extension.static(np.where(moved, factors, 1.0)))


def _disturbances(
    extension: Extension, options: Mapping[str, OptionValue], factors: FloatArray
) -> FloatArray:
    """D_i in nats when the model's own frequencies are divided by `factors`, shape [n_pairs]."""
    frequencies = extension.spec.frequencies
    return pair_disturbances(
        frequencies,
        frequencies / factors,
        extension.train_length,
        extension.target_length,
        bins=int(as_number(options, "bins")),
        direction=Direction(options["direction"]),
    )


def _refuse_without_extrapolation(**options: float | None) -> None:
    for name, value in options.items():
        if value is not None:
            raise PlanError(
                f"option {name} is {value:g}; it weighs extrapolation against the others, so strategies must "
                "have extrapolation"
            )


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
        words_option(
            "strategies",
            ("interpolation", EXTRAPOLATION),
            tuple(_FACTORS),
            2,
            "Section 3.2; ntk and yarn are ours",
        ),
    ),
    sweep={"threshold": ("0", "0.0001", "0.005", "0.02", "0.05", "0.1", "0.2", "0.4")},
)
