"""A plan's `options`: the options of its methods in one line, and that line read again."""

from __future__ import annotations

import re
from collections.abc import Mapping

KEPT = "kept"
"""Told of a method that is the model's own, kept when its checkpoint was converted."""

_NEXT_OPTION = re.compile(r",(?=[a-z][a-z0-9_]*=)")


def tell_options(options: Mapping[str, str]) -> str:
    """`name=value` joined by commas."""
    return ",".join(f"{name}={value}" for name, value in options.items())


def read_options(told: str) -> dict[str, str]:
    """The options that `tell_options` told; a comma ends a value where another `name=` follows it."""
    items = _NEXT_OPTION.split(told) if told else []
    return {name: value for name, _, value in (item.partition("=") for item in items)}
