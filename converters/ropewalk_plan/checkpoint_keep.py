"""Keep: the plan that makes the patched library run a converted checkpoint as transformers does."""

from __future__ import annotations

from dataclasses import dataclass, field

from ropewalk_plan.checkpoint_converted import ConvertedFile, read_converted
from ropewalk_plan.checkpoint_own import CheckpointMethod
from ropewalk_plan.compose import SEPARATOR, make_plan
from ropewalk_plan.gguf_header import GgufHeader
from ropewalk_plan.metadata import plan_to_metadata
from ropewalk_plan.not_executed import not_executed
from ropewalk_plan.options_text import KEPT, read_options, tell_options
from ropewalk_plan.plan import ContextPlan, PlanError, ScheduleStep
from ropewalk_plan.rope_spec import OwnScaling, RopeSpec

_DYNAMIC = ("dynamic", "qwen-dynamic")
_STATIC_METHODS = {"linear": "pi", "yarn": "yarn", "llama3": "llama3", "longrope": "longrope"}
"""A static scaling of a config, and the method it is."""

QWEN_REACH = 4
"""Qwen's first configs name four times the length they were trained on (2048 and 8192, 8192 and 32768)."""


@dataclass
class _Kept:
    """The parts of a kept method.

    Attributes:
        methods: their names, in the registry's order.
        options: the parameters in force, for people.
        schedule: the factors, none where the file's own keys say them.
        logn_length: LogN's L, 0 for none.
        windows: tokens each layer sees; empty for no windows.
    """

    methods: list[str] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)
    schedule: tuple[ScheduleStep, ...] = ()
    logn_length: int = 0
    windows: tuple[int, ...] = ()


def keep(own: CheckpointMethod, header: GgufHeader, target_length: int | None) -> ContextPlan | None:
    """The plan with a checkpoint's own method; None where the file's own keys say all of it.

    See `plan_for_converted` for the rules.

    Raises:
        PlanError: the target length is none that the checkpoint's own method reaches, or a part of it is
            nothing that the patched library executes for the model.
    """
    file = read_converted(own, header)
    train_length = _train_length(file.own)
    target = _target(own, file, train_length, target_length)
    kept = _kept(own, file, train_length, target)
    parts = bool(kept.schedule) or kept.logn_length > 0 or bool(kept.windows)
    if not parts:
        if target_length is None and file.facts.context_length >= target:
            return None
        if file.facts.context_length == target:
            return None
        kept.schedule = (_step(target, file.spec),)  # a length is all that the file does not say
    plan = ContextPlan(
        method=SEPARATOR.join(kept.methods) or "none",
        options=tell_options({KEPT: "true", **kept.options}),
        train_length=train_length,
        target_length=target,
        schedule=kept.schedule,
        rope_layers=_layers(own, file) if parts and kept.schedule else None,
        logn_length=kept.logn_length,
        windows=kept.windows,
    )
    _check_executed(plan, file)
    return plan


def _train_length(spec: RopeSpec) -> int:
    """L: the length before the checkpoint's own scaling, where its config says it."""
    scaling = spec.own_scaling
    original = None if scaling is None or scaling.kind in _DYNAMIC else scaling.original_length
    return min(original or spec.train_length, spec.train_length)


def _target(own: CheckpointMethod, file: ConvertedFile, train_length: int, asked: int | None) -> int:
    reach, limit = _reach(own, file.own)
    if asked is None:
        return reach
    if asked < train_length:
        raise PlanError(
            f"target_length is {asked}; it must be at least {train_length}, the length that this checkpoint "
            "was trained on"
        )
    if limit is not None and asked > max(limit, file.facts.context_length):
        raise PlanError(
            f"target_length is {asked}, and this checkpoint's own method reaches {limit} tokens; "
            "ask for no more, or name a method that extends it"
        )
    return asked


def _reach(own: CheckpointMethod, spec: RopeSpec) -> tuple[int, int | None]:
    """The target length by default, and the longest that the method covers (None: any)."""
    length, scaling = spec.train_length, spec.own_scaling
    if scaling is None:
        return length, length
    if scaling.kind == "dynamic":
        return max(length, round((scaling.factor or 1.0) * length)), None
    if scaling.kind == "qwen-dynamic" or scaling.logn:
        return own.stated_length if own.stated_length > length else QWEN_REACH * length, None
    if scaling.kind == "linear":
        before = scaling.original_length or length
        return length, max(length, round((scaling.factor or 1.0) * before))
    return length, length


def _kept(own: CheckpointMethod, file: ConvertedFile, train_length: int, target: int) -> _Kept:
    kept = _Kept()
    scaling = file.own.own_scaling
    if scaling is not None and scaling.kind in _DYNAMIC and target > train_length:
        _keep_dynamic(kept, file.own, scaling, train_length, target)
    else:
        _keep_static(kept, file, scaling, target)
    if scaling is not None and scaling.logn and target > train_length:
        kept.methods.append("logn")
        kept.logn_length = train_length
    windows = windows_within(own, file, target)
    if windows:
        kept.methods.append("windows")
        kept.options |= {"windows": told_windows(windows), "sinks": "0"}
        kept.windows = windows
    return kept


def _keep_dynamic(kept: _Kept, spec: RopeSpec, scaling: OwnScaling, train_length: int, target: int) -> None:
    made = make_plan(spec, "dynamic-ntk", target, train_length)
    form = {"form": "qwen"} if scaling.kind == "qwen-dynamic" else {"form": "hf"}
    factor = {} if scaling.factor is None else {"factor": _told(scaling.factor)}
    kept.methods.append(made.method)
    kept.options |= {**read_options(made.options), **form, **factor}
    kept.schedule = made.schedule


def _keep_static(kept: _Kept, file: ConvertedFile, scaling: OwnScaling | None, target: int) -> None:
    spec = file.own
    if scaling is not None and scaling.kind in _STATIC_METHODS:
        kept.methods.append(_STATIC_METHODS[scaling.kind])
        kept.options |= _told_parameters(spec, scaling)
    steps = _steps(spec, scaling, target)
    if len(steps) > 1 or not _says(file, steps[0]):
        kept.schedule = steps


def _steps(spec: RopeSpec, scaling: OwnScaling | None, target: int) -> tuple[ScheduleStep, ...]:
    """The factors in force; of LongRoPE both lists, which transformers chooses by the length of the text.

    llama.cpp chooses by the size of the context, so that a short text in a large one is turned by the long
    list, and not by the short one as in transformers.
    """
    last = _step(target, spec)
    if scaling is None or not scaling.short_factors or scaling.original_length is None:
        return (last,)
    attention = scaling.short_attention_factor
    short = ScheduleStep(
        min(scaling.original_length, target),
        scaling.short_factors,
        spec.own_attention_factor if attention is None else attention,
    )
    if target <= scaling.original_length:
        return (short,)
    long = ScheduleStep(target, scaling.long_factors, spec.own_attention_factor)
    alike = (short.frequency_factors, short.attention_factor) == (
        long.frequency_factors,
        long.attention_factor,
    )
    return (long,) if alike else (short, long)


def _step(target: int, spec: RopeSpec) -> ScheduleStep:
    return ScheduleStep(target, spec.own_factors, spec.own_attention_factor)


def _says(file: ConvertedFile, step: ScheduleStep) -> bool:
    """Whether the file's own keys say this one step, whatever the size of the context is.

    LongRoPE's lists do where the two are alike, as MiniCPM 3's are.
    """
    said = file.spec.own_scaling
    if said is not None and said.long_factors != said.short_factors:
        return False
    return file.says_rotation and step.frequency_factors == file.own.own_factors


def _layers(own: CheckpointMethod, file: ConvertedFile) -> tuple[int, ...] | None:
    """Every layer, where natively sliding ones rotate as the others do in transformers."""
    return tuple(range(file.spec.n_layer)) if own.one_rotation and file.slides else None


def windows_within(own: CheckpointMethod, file: ConvertedFile, target: int) -> tuple[int, ...]:
    """The checkpoint's windows for every layer of the file, without those as wide as the target.

    Raises:
        PlanError: the config has more layers than the file.
    """
    windows = tuple(window if window < target else 0 for window in own.windows)
    if not any(windows):
        return ()
    further = file.spec.n_layer - len(windows)
    if further < 0:
        raise PlanError(
            f"the checkpoint's config has {len(windows)} layers and the converted file {file.spec.n_layer}; "
            "--method none converts it without a plan"
        )
    return windows + (0,) * further  # layers that only draft the next tokens


def told_windows(windows: tuple[int, ...]) -> str:
    """Windows as the option of that name tells them."""
    return str(windows[0]) if len(set(windows)) == 1 else "/".join(map(str, windows))


def _told_parameters(spec: RopeSpec, scaling: OwnScaling) -> dict[str, str]:
    attention = {"attention_factor": _told(spec.own_attention_factor)}
    before = {} if scaling.original_length is None else {"original_length": str(scaling.original_length)}
    factor = {} if scaling.factor is None else {"factor": _told(scaling.factor)}
    by_kind = {
        "yarn": {
            "beta_fast": _told(scaling.beta_fast),
            "beta_slow": _told(scaling.beta_slow),
            "truncate": str(scaling.truncate).lower(),
            **attention,
        },
        "llama3": {
            "low_freq_factor": _told(scaling.low_freq_factor or 0.0),
            "high_freq_factor": _told(scaling.high_freq_factor or 0.0),
        },
        "longrope": attention,
    }
    return factor | before | by_kind.get(scaling.kind, {})


def _told(number: float) -> str:
    return f"{number:.10g}"


def _check_executed(plan: ContextPlan, file: ConvertedFile) -> None:
    if plan_to_metadata(plan, file.spec, file.facts).native:
        return
    refused = not_executed(plan, file.header)
    reason = (
        refused.reason if refused else file.why_no_factor(step.attention_factor for step in plan.schedule)
    )
    if reason:
        raise PlanError(
            f"the checkpoint's own method cannot be kept, because {reason}; --method none converts "
            "it as llama.cpp alone would run it"
        )
