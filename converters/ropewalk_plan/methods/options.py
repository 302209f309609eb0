"""The options of methods: what they are called, which values they take, and how those are typed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ropewalk_plan.plan import PlanError

OptionValue = float | int | str | None | tuple[int, ...] | tuple[str, ...]

WHOLE_MAX = 2**32 - 1
"""The largest whole number that a plan's keys hold."""

_LIST_SEPARATORS = re.compile(r"[,/\s]+")


def _as_typed(text: str) -> str:
    return text


@dataclass(frozen=True)
class OptionInfo:
    """One option of a method.

    Attributes:
        name: as in `--method-option name=value`.
        default: what it is when not given, as one would type it.
        allowed: the values it takes, in words.
        source: where default and meaning come from.
        parse: text to value; None where the text is not allowed. A parsed value may itself be None ("off").
        told: text as a plan's `options` repeats it, where several options are joined by commas.
    """

    name: str
    default: str
    allowed: str
    source: str
    parse: Callable[[str], tuple[OptionValue] | None]
    told: Callable[[str], str] = _as_typed


def number_option(
    name: str, default: float, allowed: str, source: str, accept: Callable[[float], bool]
) -> OptionInfo:
    """An option that is a finite number."""

    def parse(text: str) -> tuple[OptionValue] | None:
        value = _number(text)
        return (value,) if value is not None and accept(value) else None

    return OptionInfo(name, f"{default:.10g}", allowed, source, parse)


def optional_number(
    name: str, absent: str, allowed: str, source: str, accept: Callable[[float], bool]
) -> OptionInfo:
    """An option that is a finite number, or by default absent (the word `absent`, None when parsed)."""

    def parse(text: str) -> tuple[OptionValue] | None:
        if text == absent:
            return (None,)
        value = _number(text)
        return (value,) if value is not None and accept(value) else None

    return OptionInfo(name, absent, allowed, source, parse)


def choice_option(name: str, default: str, choices: tuple[str, ...], source: str) -> OptionInfo:
    """An option that is one of a few words."""

    def parse(text: str) -> tuple[OptionValue] | None:
        return (text,) if text in choices else None

    allowed = f"{', '.join(choices[:-1])} or {choices[-1]}"
    return OptionInfo(name, default, allowed, source, parse)


def words_option(
    name: str, default: tuple[str, ...], choices: tuple[str, ...], at_least: int, source: str
) -> OptionInfo:
    """An option that is a list of different words, at least so many; parsed into the order of `choices`."""

    def parse(text: str) -> tuple[OptionValue] | None:
        words = _items(text)
        if len(words) < at_least or len(set(words)) != len(words) or not set(words) <= set(choices):
            return None
        return (tuple(choice for choice in choices if choice in words),)

    allowed = f"{at_least} or more of {', '.join(choices)}, separated by commas, slashes or spaces"
    return OptionInfo(name, ",".join(default), allowed, source, parse, _told_list)


def whole_numbers_option(name: str, absent: str, allowed: str, source: str) -> OptionInfo:
    """An option that is a list of whole numbers from 0 on, or by default absent (None when parsed)."""

    def parse(text: str) -> tuple[OptionValue] | None:
        if text == absent:
            return (None,)
        numbers = [_number(item) for item in _items(text)]
        whole = tuple(int(n) for n in numbers if n is not None and is_whole(n))
        return (whole,) if whole and len(whole) == len(numbers) else None

    return OptionInfo(name, absent, allowed, source, parse, _told_list)


def path_option(name: str, absent: str, allowed: str, source: str) -> OptionInfo:
    """An option that is the path of a file, or by default absent (None when parsed).

    Plans go into files that are passed on, so they tell the file's name and not in which folder it was.
    """

    def parse(text: str) -> tuple[OptionValue] | None:
        return (None if text == absent else text,) if text else None

    return OptionInfo(name, absent, allowed, source, parse, lambda text: Path(text).name)


def is_whole(value: float) -> bool:
    """Whether `value` is a whole number that a plan's keys hold."""
    return value == math.floor(value) and 0 <= value <= WHOLE_MAX


def as_number(options: Mapping[str, OptionValue], name: str) -> float:
    """A parsed option that is always a number."""
    value = options[name]
    if not isinstance(value, (int, float)):
        raise PlanError(f"option {name} is {value!r}; it must be a number")
    return float(value)


def as_optional_number(options: Mapping[str, OptionValue], name: str) -> float | None:
    """A parsed option that is a number or absent."""
    return None if options[name] is None else as_number(options, name)


def as_words(options: Mapping[str, OptionValue], name: str) -> tuple[str, ...]:
    """A parsed option that is a list of words."""
    value = options[name]
    return tuple(str(word) for word in value) if isinstance(value, tuple) else ()


def as_optional_whole_numbers(options: Mapping[str, OptionValue], name: str) -> tuple[int, ...] | None:
    """A parsed option that is a list of whole numbers or absent."""
    value = options[name]
    return tuple(int(number) for number in value) if isinstance(value, tuple) else None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _items(text: str) -> list[str]:
    return _LIST_SEPARATORS.split(text.strip())


def _told_list(text: str) -> str:
    return "/".join(_items(text))
