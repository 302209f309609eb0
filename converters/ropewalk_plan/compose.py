"""`make_plan`: from a model, a method's name (or several, joined by `+`) and a target length to a plan."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

from ropewalk_plan.methods import METHODS, Aspect, Extension, MethodInfo, OptionInfo, OptionValue, PlanPart
from ropewalk_plan.options_text import is_kept, tell_options
from ropewalk_plan.plan import ContextPlan, PlanError, PositionKind, PositionMap
from ropewalk_plan.rope_spec import RopeSpec

SEPARATOR = "+"


def make_plan(
    spec: RopeSpec,
    method: str,
    target_length: int,
    train_length: int | None = None,
    options: Mapping[str, str] | None = None,
) -> ContextPlan:
    """Make the plan that extends a model by one method, or by several that do not contradict each other.

    Args:
        spec: the model's own rotation, which is extended from what it is.
        method: a name of `METHODS`, or several joined by `+`, in any order.
        target_length: L' in tokens.
        train_length: L in tokens; the model's own where None.
        options: the methods' options as text; the defaults of `METHODS` where absent.

    Raises:
        PlanError: an unknown method or option, a value out of range, contradicting methods, or lengths
            that are not positive and rising; the message names the parameter and what is allowed.
    """
    length = spec.train_length if train_length is None else train_length
    _check_lengths(length, target_length)
    infos = parse_method(method)
    values = _parse_options(infos, options or {})
    extension = Extension(spec, length, target_length)
    parts = [info.build(extension, values) for info in infos]
    windowed = next((part for part in parts if part.windows), PlanPart())
    schedule = next((part.schedule for part in parts if part.schedule), ())
    if windowed.streaming:  # which states its factors, the model's own where no method changes them
        schedule = schedule or extension.unchanged()
    if windowed.rope_layers is not None and not schedule:
        raise PlanError(
            "option rope_layers says which layers new frequencies are for, and no method gives any; name one "
            "beside windows, or leave the option out"
        )
    return ContextPlan(
        method=SEPARATOR.join(info.name for info in infos),
        options=_options_text(infos, options or {}),
        train_length=length,
        target_length=target_length,
        schedule=schedule,
        rope_layers=windowed.rope_layers,
        position_map=_position_map(parts),
        logn_length=max(part.logn_length for part in parts),
        windows=windowed.windows,
        sinks=windowed.sinks,
        streaming=windowed.streaming,
    )


def parse_method(method: str) -> tuple[MethodInfo, ...]:
    """The methods that `method` names, in the registry's order.

    Raises:
        PlanError: a name that is unknown or given twice, or two methods that contradict each other.
    """
    names = [name.strip() for name in method.split(SEPARATOR)]
    for name in names:
        if name not in METHODS:
            raise PlanError(f"method {name!r} is unknown; choose from {', '.join(METHODS)}")
        if names.count(name) > 1:
            raise PlanError(f"method {name} is given twice in {method!r}; name it once")
    chosen = tuple(info for info in METHODS.values() if info.name in names)
    for one, other in combinations(chosen, 2):
        contradiction = _contradiction(one, other)
        if contradiction:
            raise PlanError(
                f"methods {one.name} and {other.name} contradict each other: {contradiction}; "
                "choose one of them"
            )
    return chosen


def _contradiction(one: MethodInfo, other: MethodInfo) -> str:
    """Why two methods cannot be together, in a clause; empty if they can."""
    shared = [aspect.value for aspect in Aspect if aspect in one.sets & other.sets]
    if shared:
        return f"both decide {' and '.join(shared)}"
    reasons = [
        first.excludes[aspect]
        for first, second in ((one, other), (other, one))
        for aspect in Aspect
        if aspect in second.sets and aspect in first.excludes
    ]
    return reasons[0] if reasons else ""


def finetuning_notes(plan: ContextPlan) -> tuple[str, ...]:
    """A sentence for each method of `plan` that at its scale needs a fine-tuned model to be good.

    None for a method that is the model's own, kept from its checkpoint.
    """
    if is_kept(plan):
        return ()
    return tuple(
        f"{info.name} needs a model fine-tuned with it to be good at scale {plan.scale:g}: {info.tuning}."
        for info in parse_method(plan.method)
        if plan.scale > info.untuned_scale
    )


def _check_lengths(train_length: int, target_length: int) -> None:
    if train_length <= 0:
        raise PlanError(f"train_length is {train_length}; it must be a positive number of tokens")
    if target_length <= 0:
        raise PlanError(f"target_length is {target_length}; it must be a positive number of tokens")
    if target_length < train_length:
        raise PlanError(
            f"target_length is {target_length}; it must be at least the train length {train_length}"
        )


def _options_of(infos: tuple[MethodInfo, ...]) -> dict[str, OptionInfo]:
    return {option.name: option for info in infos for option in info.options}


def _parse_options(infos: tuple[MethodInfo, ...], given: Mapping[str, str]) -> dict[str, OptionValue]:
    known = _options_of(infos)
    for name, text in given.items():
        if name not in known:
            names = SEPARATOR.join(info.name for info in infos)
            allowed = f"choose from {', '.join(known)}" if known else f"{names} has no options"
            raise PlanError(f"option {name}={text} is unknown to method {names}; {allowed}")
    values: dict[str, OptionValue] = {}
    for name, option in known.items():
        text = given.get(name, option.default)
        parsed = option.parse(text)
        if parsed is None:
            raise PlanError(f"option {name} is {text!r}; it must be {option.allowed}")
        values[name] = parsed[0]
    return values


def _options_text(infos: tuple[MethodInfo, ...], given: Mapping[str, str]) -> str:
    return tell_options(
        {name: option.told(given.get(name, option.default)) for name, option in _options_of(infos).items()}
    )


def _position_map(parts: list[PlanPart]) -> PositionMap:
    mapped = [part.position_map for part in parts if part.position_map.kind is not PositionKind.IDENTITY]
    return mapped[0] if mapped else PositionMap()
