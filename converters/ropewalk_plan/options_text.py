"""A plan's `options`: the options of its methods in one line, and that line read again."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ropewalk_plan.plan import ContextPlan

KEPT = "kept"
"""Told of a method that is the model's own, kept when its checkpoint was converted."""

_NEXT_OPTION = re.compile(r",(?=[a-z][a-z0-9_]*=)")


def tell_options(options: Mapping[str, str]) -> str:
    """`name=value` joined by commas."""
    return ",".join(f"{name}={value}" for name, value in options.items())


def is_kept(plan: ContextPlan) -> bool:
    """Whether a plan's method is the model's own, kept from its checkpoint."""
    return KEPT in read_options(plan.options)


def read_options(told: str) -> dict[str, str]:
    """The options that `tell_options` told; a comma ends a value where another `name=` follows it."""
    items = _NEXT_OPTION.split(told) if told else []
    return {name: value for name, _, value in (item.partition("=") for item in items)}
