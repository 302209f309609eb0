"""Which plan a model is to have: the file's own, another one, or none."""

from __future__ import annotations

from enum import Enum
from typing import Literal, TypeAlias

from ropewalk.backend.errors import PlanRefusedError
from ropewalk.backend.model import Model
from ropewalk_plan.plan import ContextPlan


class NoPlan(Enum):
    """What stands for no plan, not the file's own either."""

    NO_PLAN = "no plan"


NO_PLAN = NoPlan.NO_PLAN

PlanChoice: TypeAlias = ContextPlan | Literal[NoPlan.NO_PLAN] | None
"""A plan, `NO_PLAN`, or None for the file's own."""


def give_plan(model: Model, choice: PlanChoice) -> None:
    """Gives a model a plan for contexts made from now on.

    Raises:
        LibraryNotPatchedError: the library is a stock build, and the model has another plan.
        PlanRefusedError: the library does not execute the plan; the model keeps what it had.
    """
    if choice is not None and choice is not NO_PLAN:
        model.set_plan(choice)
    elif choice is NO_PLAN and model.plan() is not None:
        model.set_plan(None)


def require_replaceable(model: Model) -> None:
    """Refuses a file whose own RoPE keys say its plan: no other plan starts from the plain model there.

    Raises:
        PlanRefusedError: names the file.
    """
    if model.meta("ropewalk.native") is True:
        raise PlanRefusedError(
            f"the plan of {model.path} is native, so its own RoPE keys say it and no other plan can take its "
            "place: use the file that it was baked from"
        )
