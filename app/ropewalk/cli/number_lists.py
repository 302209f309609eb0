"""Lists of numbers on the command line: `4000,12000` and `0.1,0.5,0.9`."""

from __future__ import annotations

from typing import TypeVar

import click

_Number = TypeVar("_Number", int, float)


def lengths(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
    """An option's callback: numbers of tokens separated by commas."""
    meaning = "numbers of tokens, at least 1, separated by commas, such as 4000,12000"
    return _numbers(value, int, 1, 2**31 - 1, meaning)


def lengths_or_none(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...]:
    """The same for an option that may be left out: () then."""
    return () if value is None else lengths(context, parameter, value)


def depths(context: click.Context, parameter: click.Parameter, value: str) -> tuple[float, ...]:
    """An option's callback: shares of a text separated by commas."""
    return _numbers(value, float, 0.0, 1.0, "numbers from 0 to 1 separated by commas, such as 0.1,0.5,0.9")


def _numbers(
    text: str, kind: type[_Number], low: _Number, high: _Number, meaning: str
) -> tuple[_Number, ...]:
    try:
        numbers = tuple(kind(part) + kind() for part in text.split(","))  # -0 is 0
    except ValueError:
        numbers = ()
    if not numbers or not all(low <= number <= high for number in numbers):
        raise click.BadParameter(f"'{text}' is not {meaning}")
    for i, number in enumerate(numbers):
        if number in numbers[:i]:
            raise click.BadParameter(f"'{text}' has {number} twice: leave one out")
    return numbers
