"""Which plans are worth trying for a model and a target length: every applicable method, each plan once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from ropewalk.evaluation.labelled_plan import PLAIN, LabelledPlan, label_of, labelled_plan
from ropewalk.evaluation.plan_effect import PlanEffect, effects, step_ends
from ropewalk_plan import METHODS, ContextPlan, ModelFacts, PlanError, RopeSpec
from ropewalk_plan.compose import parse_method
from ropewalk_plan.methods import COMBINATIONS

Refusal = Callable[[ContextPlan], str | None]
"""Why a plan cannot be executed for the model, in a clause, or None."""

Asked = tuple[str, Mapping[str, str]]
"""A method's name, or several joined by `+`, and its options."""


@dataclass(frozen=True)
class LeftOut:
    """A plan that is not among the candidates.

    Attributes:
        label: the method with its options.
        reason: why, in a clause: "the same plan as ntk", "needs a model fine-tuned with it ...".
    """

    label: str
    reason: str


@dataclass(frozen=True)
class Candidates:
    """What there is to choose from.

    Attributes:
        plans: the plain model first; no two of the same effect.
        left_out: what was looked at and is not among them.
    """

    plans: tuple[LabelledPlan, ...]
    left_out: tuple[LeftOut, ...] = ()


def candidates(
    spec: RopeSpec,
    facts: ModelFacts,
    target_length: int,
    train_length: int | None = None,
    *,
    finetuned: bool = False,
) -> tuple[LabelledPlan, ...]:
    """Every applicable method as a plan (see `find_candidates`), the plain model first."""
    del facts  # what of the file decides is in `spec`; what the library refuses is asked of `find_candidates`
    return find_candidates(spec, target_length, train_length, finetuned=finetuned).plans


def find_candidates(
    spec: RopeSpec,
    target_length: int,
    train_length: int | None = None,
    *,
    finetuned: bool = False,
    methods: Sequence[Asked] | None = None,
    refusal: Refusal = lambda plan: None,
) -> Candidates:
    """Every method that applies, alone and in the combinations somebody runs, with its options swept.

    Plans of the same effect at every length are one candidate, that of the first. Which options are swept,
    which methods combine and from which scale on one needs fine-tuning is the methods' own word.

    Args:
        spec: the model's own rotation.
        target_length: L' in tokens.
        train_length: L in tokens; the model's own where None.
        finetuned: keep methods that need a model fine-tuned with them.
        methods: only these, whatever fine-tuning they need; all where None.
        refusal: whether the library executes a plan for the model.

    Raises:
        PlanError: one of `methods` cannot be made, or the lengths make no extension.
    """
    length = spec.train_length if train_length is None else train_length
    found: list[tuple[LabelledPlan, tuple[PlanEffect, ...]]] = []
    left_out: list[LeftOut] = []
    scale = target_length / length
    plans: list[LabelledPlan] = [labelled_plan(spec, PLAIN, target_length, train_length)]
    for method, options in _every_method() if methods is None else methods:
        untuned = "" if finetuned or methods is not None else _why_untuned(method, scale)
        try:
            plan = labelled_plan(spec, method, target_length, train_length, options)
        except PlanError as error:
            if methods is not None:
                raise
            left_out.append(LeftOut(label_of(method, options), str(error)))
            continue
        refused = untuned or (refusal(plan.plan) if plan.plan is not None else None)
        if refused:
            left_out.append(LeftOut(plan.label, refused))
        else:
            plans.append(plan)
    lengths = tuple(sorted({target_length, length, *(end for plan in plans for end in step_ends(plan.plan))}))
    for plan in plans:
        effect = effects(plan.plan, spec, lengths)
        same = next((other for other, known in found if known == effect), None)
        if same is None:
            found.append((plan, effect))
        elif same.label != plan.label:
            told = (
                "changes nothing for this target" if same.plan is None else f"the same plan as {same.label}"
            )
            left_out.append(LeftOut(plan.label, told))
    return Candidates(tuple(plan for plan, _ in found), tuple(left_out))


def _every_method() -> Iterator[Asked]:
    for info in METHODS.values():
        for values in product(*info.sweep.values()):
            yield info.name, dict(zip(info.sweep, values, strict=True))
    for combination in COMBINATIONS:
        yield combination.method, combination.options


def _why_untuned(method: str, scale: float) -> str:
    """Why a method is not for a model that was not fine-tuned with it, in a clause; empty if it is."""
    for info in parse_method(method):
        if scale > info.untuned_scale:
            return f"at {scale:g} times the train length needs a model fine-tuned with it (--finetuned)"
    return ""
