"""A plan under the name that tables and results give it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ropewalk_plan import ContextPlan, RopeSpec, make_plan

PLAIN = "none"
"""The method that leaves a model as it is."""

_NO_OPTIONS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class LabelledPlan:
    """One of several plans that are measured side by side.

    Attributes:
        label: method and options given, as results name it: `dprope`, `dprope threshold=0.05`.
        method: the method's name, or several joined by `+`.
        options: the options given, by name, as they were written.
        plan: what is executed; None for the model as its file has it.
    """

    label: str
    method: str
    options: Mapping[str, str]
    plan: ContextPlan | None


def labelled_plan(
    spec: RopeSpec,
    method: str,
    target_length: int,
    train_length: int | None = None,
    options: Mapping[str, str] = _NO_OPTIONS,
) -> LabelledPlan:
    """The plan that a method makes for a model, with its label; `none` is the plain model.

    Args:
        spec: the model's own rotation.
        method: a method's name, or several joined by `+`.
        target_length: L' in tokens.
        train_length: L in tokens; the model's own where None.
        options: the methods' options as text.

    Raises:
        PlanError: the method does not make a plan for this model.
    """
    plan = make_plan(spec, method, target_length, train_length, options)
    label = label_of(plan.method, options)
    return LabelledPlan(label, plan.method, dict(options), None if plan.method == PLAIN else plan)


def label_of(method: str, options: Mapping[str, str] = _NO_OPTIONS) -> str:
    """How results name a method with the options that were given."""
    return " ".join([method, *(f"{name}={value}" for name, value in options.items())])
