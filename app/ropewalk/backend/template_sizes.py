"""How large the result of one operation of a chat template would be, found before it is made.

Native operations cannot be interrupted (see `bounded_call`), so those whose result can be out of all
proportion to what they are given are measured first. Sizes are upper bounds, in characters and items.
"""

# ruff: noqa: ANN401  # what a template handles may be anything

from __future__ import annotations

import re
from collections.abc import ItemsView, Iterable, KeysView, Mapping, Sequence, ValuesView
from typing import Any

from jinja2.utils import Namespace

MAX_ITEMS = 200_000
"""The most items of a list, and of all lists within it."""
MAX_BITS = 1 << 16
"""The largest whole number."""

_PERCENT = re.compile(r"%(?:\([^)]*\))?[#0\- +]*(\d+|\*)?(?:\.(\d+|\*))?")
_DIGITS = re.compile(r"\d+")
_NUMBER_CHARACTERS = 400
"""The longest way a float, or a number of moderate size, is written without a width."""
_SLOW_SCAN = 10**9


class TooLarge(Exception):
    """The result of an operation would be out of all bounds."""


class Sizes:
    """Bounds on the strings of one rendering.

    Attributes:
        characters: of the longest string.
    """

    def __init__(self, characters: int) -> None:
        """Bounds."""
        self.characters = characters

    def require_text(self, n_characters: int) -> None:
        """Refuses a string of so many characters.

        Raises:
            TooLarge: it is longer than allowed.
        """
        if n_characters > self.characters:
            raise TooLarge(f"a text of {n_characters:,} characters")

    def written(self, value: object) -> int:
        """Characters of `str(value)`, at most; walks what is nested.

        Raises:
            TooLarge: it is longer than allowed.
        """
        total, items = 0, 0
        waiting: list[object] = [value]
        while waiting:
            one = waiting.pop()
            items += 1
            if isinstance(one, (str, bytes)):
                # within a list, a character may be written as \U0001f600
                total += len(one) if one is value else 2 + len(one) * (1 if isinstance(one, str) else 4)
            elif isinstance(one, int):
                total += one.bit_length() // 3 + 2
            else:
                total += _NUMBER_CHARACTERS if isinstance(one, (float, complex)) else 80
                inside = _inside(one)
                if items + len(waiting) + len(inside) > MAX_ITEMS:
                    raise TooLarge(f"a list of more than {MAX_ITEMS:,} items")
                waiting += inside
            self.require_text(total)
        return total

    def require_operation(self, operator: str, left: Any, right: Any) -> None:
        """Refuses a binary operation whose result would be too large.

        Raises:
            TooLarge: it would.
        """
        if operator == "*":
            for many, times in ((left, right), (right, left)):
                if isinstance(times, int):
                    self._require_repetition(many, times)
        elif operator == "+":
            if isinstance(left, (str, bytes)) and isinstance(right, (str, bytes)):
                self.require_text(len(left) + len(right))
            elif isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
                require_items(len(left) + len(right))
        elif operator == "**":
            if isinstance(left, int) and isinstance(right, int):
                _require_bits(left.bit_length() * max(right, 0))
        elif operator == "%" and isinstance(left, (str, bytes)):
            self.require_percent(left.decode("latin-1") if isinstance(left, bytes) else left, right)

    def require_percent(self, pattern: str, arguments: object) -> None:
        """Refuses `pattern % arguments`.

        Raises:
            TooLarge: its result might be too large.
        """
        marks = pattern.count("%")
        if not marks:
            return
        if marks * len(pattern) > _SLOW_SCAN:
            raise TooLarge("a pattern of so many places")
        given: Iterable[object]
        if isinstance(arguments, Mapping):
            given = arguments.values()
        else:
            given = arguments if isinstance(arguments, tuple) else (arguments,)
        given = list(given)
        longest = max((self.written(one) for one in given), default=0)
        widest = max((abs(one) for one in given if isinstance(one, int)), default=0)
        total = len(pattern) + marks * (longest + _NUMBER_CHARACTERS)
        for places in _PERCENT.findall(pattern):
            total += sum(widest if place == "*" else _number(place) for place in places if place)
        self.require_text(total)

    def require_format_spec(self, spec: str) -> None:
        """Refuses a format specification such as `>1000000000`.

        Raises:
            TooLarge: its width or precision is out of bounds.
        """
        self.require_text(sum(_number(digits) for digits in _DIGITS.findall(spec)))

    def require_method(self, owner: object, name: str, arguments: Sequence[Any]) -> None:
        """Refuses a call of a string's or number's own method.

        Raises:
            TooLarge: its result might be too large.
        """
        numbers = [one for one in arguments if isinstance(one, int)]
        if isinstance(owner, (str, bytes)):
            size = len(owner)
            if name == "replace" and len(arguments) >= 2:
                self.require_replacement(owner, arguments[0], arguments[1])
            elif name in ("ljust", "rjust", "center", "zfill"):
                self.require_text(max([size, *numbers]))
            elif name == "expandtabs":
                self.require_text(size + size * max(numbers, default=8))
            elif name == "translate":
                table = arguments[0] if arguments else None
                texts = table.values() if isinstance(table, dict) else ()
                longest = max((len(text) for text in texts if isinstance(text, str)), default=1)
                self.require_text(size * max(1, longest))
        elif isinstance(owner, int) and name == "to_bytes":
            self.require_text(max(numbers, default=0))

    def require_replacement(self, text: Any, old: Any, new: Any) -> None:
        """Refuses `text.replace(old, new)`.

        Raises:
            TooLarge: its result would be too large.
        """
        if not (type(text) is type(old) is type(new) or all(isinstance(x, str) for x in (text, old, new))):
            return  # it raises by itself
        count = text.count(old)  # of an empty one: one more than there are characters
        self.require_text(len(text) + count * max(0, len(new) - len(old)))

    def require_joined(self, separator: object, texts: Sequence[object]) -> None:
        """Refuses `separator.join(texts)`.

        Raises:
            TooLarge: its result would be too large.
        """
        require_items(len(texts))
        total = self.written(separator) * len(texts)
        for text in texts:
            total += len(text) if isinstance(text, (str, bytes)) else self.written(text)
            self.require_text(total)

    def _require_repetition(self, many: Any, times: int) -> None:
        if isinstance(many, (str, bytes)):
            self.require_text(len(many) * times)
        elif isinstance(many, (list, tuple)):
            if times > 1 and many:
                require_items(len(many) * times)
                require_items(count_items(many) * times)
        elif isinstance(many, int):
            _require_bits(many.bit_length() + times.bit_length())


def require_items(n_items: int) -> None:
    """Refuses a list of so many items.

    Raises:
        TooLarge: there are more than allowed.
    """
    if n_items > MAX_ITEMS:
        raise TooLarge(f"a list of {n_items:,} items")


def count_items(value: object) -> int:
    """Items of a list and of all within it, itself included; one that is in two places counts twice.

    Raises:
        TooLarge: so many that comparing or writing it might never end.
    """
    waiting, items = [value], 0
    while waiting:
        one = waiting.pop()
        items += 1
        kind = type(one)
        if kind is str or kind is int:  # most are: a short way
            continue
        waiting.extend(one if kind is list or kind is tuple else _inside(one))  # type: ignore[arg-type]
        if items + len(waiting) > MAX_ITEMS:
            require_items(items + len(waiting))
    return items


def _require_bits(n_bits: int) -> None:
    if n_bits > MAX_BITS:
        raise TooLarge(f"a number of {n_bits:,} bits")


def _number(digits: str) -> int:
    return int(digits) if len(digits) < 20 else 10**20


def _inside(value: object) -> list[object]:
    """What a value is written with."""
    if isinstance(value, (list, tuple)):
        return list(value)
    if isinstance(value, Namespace):
        value = getattr(value, "_Namespace__attrs", {})
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    if isinstance(value, (set, frozenset, KeysView, ValuesView, ItemsView)):
        return list(value)
    return []
