"""LongRoPE: factors per pair that a search has found, one list for short texts and one for long ones.

Symbols: L the length the lists start from, L' the target, s = L'/L; a list is f_i of every pair (no unit,
shape [n_rot/2]), which divides theta_i. Up to L the short list is in force, beyond it the long one: a
schedule of two steps. The attention factor is `sqrt(1 + ln s / ln L)` for both, as in transformers.
Where our reading departs from the paper (Ding et al. 2024, Section 3): its search also finds a number of
first tokens that are not interpolated, which no published checkpoint uses; and the search itself is not
run here, the lists are taken as they are published.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ropewalk_plan.longrope_formula import longrope_attention_factor
from ropewalk_plan.methods.method import Aspect, Extension, MethodInfo, PlanPart
from ropewalk_plan.methods.options import OptionValue, as_optional_number, optional_number, path_option
from ropewalk_plan.plan import PlanError
from ropewalk_plan.rope_spec import FloatArray

_SHORT, _LONG = "short_factor", "long_factor"
_SCALING_OBJECTS = ("rope_scaling", "rope_parameters")


@dataclass(frozen=True)
class _Lists:
    """Two lists, relative to the model's own frequencies, and the extension they are for.

    Attributes:
        short: in force up to `length`, shape [n_pairs].
        long: in force beyond.
        length: L, tokens from which the lists extend.
        attention_factor: relative to the model's own.
    """

    short: FloatArray
    long: FloatArray
    length: int
    attention_factor: float


def build_longrope(extension: Extension, options: Mapping[str, OptionValue]) -> PlanPart:
    """LongRoPE (Ding et al. 2024) as transformers runs it; where L' is L the model stays as it is.

    Lists from a file extend the model from what it is: they multiply its own factors, and L is the train
    length. Lists from the checkpoint's own config are what the model is already, from its original length to
    its full one; beyond that the long list is interpolated further, by L' over the full length (as the
    paper extends in two steps), and the attention factor goes on growing by its formula.

    Raises:
        PlanError: no lists, or lists that do not fit the model.
    """
    if not extension.extends:
        return PlanPart()
    lists = _from_file(extension, options) if options["factors"] is not None else _own(extension)
    given = as_optional_number(options, "attention_factor")
    attention_factor = lists.attention_factor if given is None else given
    target = extension.target_length
    short_end = min(lists.length, target)
    steps = [extension.step(short_end, lists.short, attention_factor)]
    if target > short_end:
        steps.append(extension.step(target, lists.long, attention_factor))
    return PlanPart(schedule=tuple(steps))


def _own(extension: Extension) -> _Lists:
    spec = extension.spec
    own = spec.own_scaling
    if own is None or not own.short_factors or not own.long_factors:
        raise PlanError(
            "longrope needs lists of factors and the model has none of its own; give a file that has them, "
            "with the option factors=PATH"
        )
    short = _checked(own.short_factors, _SHORT, "the model's config", spec.n_pairs) / spec.factors
    long = _checked(own.long_factors, _LONG, "the model's config", spec.n_pairs) / spec.factors
    length = own.original_length or extension.train_length
    if not np.allclose(long, 1.0):  # the long list is not in force in the model yet
        scale = extension.target_length / length
        return _Lists(short, long, length, longrope_attention_factor(scale, length))
    reached = max(length, spec.train_length)
    target = max(reached, extension.target_length)
    before, after = (longrope_attention_factor(full / length, length) for full in (reached, target))
    return _Lists(short, long * (target / reached), length, after / before)


def _from_file(extension: Extension, options: Mapping[str, OptionValue]) -> _Lists:
    path = Path(str(options["factors"]))
    values = _read(path)
    n_pairs = extension.spec.n_pairs
    return _Lists(
        short=_checked(values.get(_SHORT), _SHORT, str(path), n_pairs),
        long=_checked(values.get(_LONG), _LONG, str(path), n_pairs),
        length=extension.train_length,
        attention_factor=longrope_attention_factor(extension.scale, extension.train_length),
    )


def _read(path: Path) -> Mapping[str, object]:
    """The JSON object in `path` that holds the lists: the whole of it, or a config.json's scaling."""
    try:
        content = json.loads(path.expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanError(f"option factors is {path}, which cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise PlanError(f"option factors is {path}, which is not JSON: {error}") from error
    objects = [content]
    if isinstance(content, dict):
        objects += [content.get(name) for name in _SCALING_OBJECTS]
    for candidate in objects:
        if isinstance(candidate, dict) and _SHORT in candidate and _LONG in candidate:
            return candidate
    raise PlanError(f"option factors is {path}; it must hold a JSON object with {_SHORT} and {_LONG}")


def _checked(values: object, name: str, where: str, n_pairs: int) -> FloatArray:
    """One list as an array, if it is one of n_pairs finite numbers above 0."""
    if not isinstance(values, (list, tuple)) or len(values) != n_pairs:
        held = len(values) if isinstance(values, (list, tuple)) else "no"
        raise PlanError(
            f"{name} in {where} has {held} numbers; it must have {n_pairs}, one for each rotary pair"
        )
    for value in values:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value <= 0:
            raise PlanError(f"{name} in {where} has {value!r}; each must be a finite number above 0")
    return np.asarray(values, dtype=np.float64)


LONGROPE = MethodInfo(
    name="longrope",
    summary="divides every pair by its own searched factor, from one list for short texts and one for long",
    source="LongRoPE, Ding et al. 2024; Phi-3's published configs; transformers' longrope",
    sets=frozenset({Aspect.FREQUENCIES, Aspect.GROWTH}),
    build=build_longrope,
    options=(
        path_option(
            "factors",
            "auto",
            f"auto (the checkpoint's config) or a JSON file with {_SHORT} and {_LONG}, such as a config.json",
            "transformers' names",
        ),
        optional_number(
            "attention_factor",
            "auto",
            "auto (sqrt(1 + ln s / ln L)) or a number above 0",
            "transformers",
            lambda value: value > 0,
        ),
    ),
    untuned_scale=1.0,
    tuning="lists are searched for one model, which its paper then fine-tunes with them",
)
