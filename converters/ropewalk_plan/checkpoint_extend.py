"""Another method for a checkpoint than its own: computed from its effective frequencies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ropewalk_plan.checkpoint_converted import ConvertedFile, read_converted
from ropewalk_plan.checkpoint_keep import told_windows, windows_within
from ropewalk_plan.checkpoint_own import CheckpointMethod
from ropewalk_plan.compose import SEPARATOR, make_plan, parse_method
from ropewalk_plan.gguf_header import GgufHeader
from ropewalk_plan.metadata import plan_to_metadata
from ropewalk_plan.methods import METHODS, Aspect
from ropewalk_plan.options_text import read_options, tell_options
from ropewalk_plan.plan import ContextPlan, PlanError, ScheduleStep
from ropewalk_plan.rope_spec import RopeSpec

_WINDOWS = "windows"
_ROTATION = {Aspect.FREQUENCIES, Aspect.GROWTH, Aspect.POSITIONS}


@dataclass(frozen=True)
class _Extended:
    """What a method extends, and from where.

    Attributes:
        spec: the rotation it extends.
        train_length: L.
    """

    spec: RopeSpec
    train_length: int


def extend(
    own: CheckpointMethod,
    header: GgufHeader,
    *,
    method: str,
    target_length: int | None,
    train_length: int | None,
    options: Mapping[str, str],
) -> ContextPlan:
    """The plan with a method other than the checkpoint's own; see `plan_for_converted` for the rules.

    Raises:
        PlanError: what `make_plan` raises, a train length that the checkpoint's own scaling contradicts, no
            target length where the checkpoint says none, or a method that its windows exclude.
    """
    file = read_converted(own, header)
    extended = _what_is_extended(own, file.own, train_length)
    if not any(info.sets & _ROTATION for info in parse_method(method)):
        extended = replace(extended, spec=file.own)  # it turns as the checkpoint does, wherever L is
    target = _target(own, file, extended.train_length) if target_length is None else target_length
    plan = make_plan(extended.spec, method, target, extended.train_length, options)
    if not plan.schedule and not file.says_rotation:
        step = ScheduleStep(target, extended.spec.own_factors, extended.spec.own_attention_factor)
        plan = replace(plan, schedule=(step,))
    if plan.schedule and own.scales and own.one_rotation and file.slides and file.spec.is_plain:
        raise PlanError(
            f"the sliding layers of this {file.spec.architecture} checkpoint rotate with its own scaling, "
            f"which a plan of {method} would not give them; keep its own method (--method keep)"
        )
    _check_executed(plan, extended.spec, file)
    return _with_windows(plan, own, file)


def _what_is_extended(own: CheckpointMethod, spec: RopeSpec, train_length: int | None) -> _Extended:
    """What a method starts from: the checkpoint with its own scaling, or as it was before it."""
    full = spec.train_length
    if train_length is None or not own.scales:
        return _Extended(spec, train_length or full)
    before, said = _length_before(spec)
    if train_length == before:
        return _Extended(_without_scaling(spec, own.spec, train_length), train_length)
    if train_length == full and said:
        return _Extended(spec, train_length)
    if train_length == full:
        raise PlanError(
            f"train_length is {full}, and this checkpoint scales linearly without saying from which length; "
            f"leave it out to go on from what the checkpoint is, or give {before} for a method in place of "
            "its scaling (keeping that reaches further with --target-length)"
        )
    allowed = [f"{full}, its length with it"] if said else []
    if before is not None:
        allowed.append(f"{before}, from before it")
    raise PlanError(
        f"train_length is {train_length}, and this checkpoint has a scaling of its own; it must be "
        + ", or ".join(allowed)
    )


def _length_before(spec: RopeSpec) -> tuple[int | None, bool]:
    """The length before the checkpoint's own scaling, None where there is none, and whether that is said.

    Linear scaling by s in a config that does not say it counts as from `max_position_embeddings / s`. Few
    makers leave that key as it was (see `checkpoint_scaling.linear`).
    """
    scaling = spec.own_scaling
    if scaling is None or scaling.original_length is not None:
        return None if scaling is None else scaling.original_length, True
    if scaling.kind != "linear" or scaling.factor is None or scaling.factor <= 1.0:
        return None, True
    return round(spec.train_length / scaling.factor), False


def _without_scaling(spec: RopeSpec, own: RopeSpec, train_length: int) -> RopeSpec:
    """The rotation before the checkpoint's own scaling, whose parameters stay as the methods' defaults."""
    factors = tuple(f / g for f, g in zip(spec.own_factors, own.own_factors, strict=True))
    return replace(spec, own_factors=factors, own_attention_factor=1.0, train_length=train_length)


def _target(own: CheckpointMethod, file: ConvertedFile, train_length: int) -> int:
    length = max(file.own.train_length, own.stated_length)
    if length > train_length:
        return length
    raise PlanError(
        f"the checkpoint says no length beyond its train length of {train_length} tokens; give a target "
        "length (--target-length)"
    )


def _check_executed(plan: ContextPlan, extended: RopeSpec, file: ConvertedFile) -> None:
    """Refuse an attention factor that no plan can go on from; the caller asks `not_executed` for the rest."""
    if not plan.schedule or plan_to_metadata(plan, file.spec, file.facts).native:
        return
    reason = file.why_no_factor((extended.own_attention_factor,))
    if reason:
        raise PlanError(
            f"the method {plan.method} cannot go on from this checkpoint, because {reason}; give the length "
            "from before its scaling to replace that (--train-length), or convert it with --method none"
        )


def _with_windows(plan: ContextPlan, own: CheckpointMethod, file: ConvertedFile) -> ContextPlan:
    """The plan with the windows that the model was trained with, where the method does not decide them."""
    windows = windows_within(own, file, plan.target_length)
    infos = parse_method(plan.method)
    if not windows or any(Aspect.WINDOWS in info.sets for info in infos):
        return plan
    for info in infos:
        reason = info.excludes.get(Aspect.WINDOWS)
        if reason is not None:
            raise PlanError(
                f"this checkpoint has windows, which {info.name} excludes: {reason}; choose another method"
            )
    names = {info.name for info in infos} | {_WINDOWS}
    told = {**read_options(plan.options), "windows": told_windows(windows), "sinks": "0"}
    return replace(
        plan,
        method=SEPARATOR.join(name for name in METHODS if name in names),
        options=tell_options(told),
        windows=windows,
    )
