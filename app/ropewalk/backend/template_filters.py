"""Jinja's filters for chat templates: those that write without bounds are measured first."""

# ruff: noqa: ANN401  # what a template handles may be anything

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable
from typing import Any, TypeVar

from jinja2 import pass_eval_context
from jinja2.filters import FILTERS, make_attrgetter
from jinja2.nodes import EvalContext
from jinja2.runtime import markup_join, str_join

from ropewalk.backend.template_sizes import Sizes, TooLarge, count_items, require_items

T = TypeVar("T")
Filter = Callable[..., Any]
Arguments = dict[str, Any]

CONCAT, CHECKED = "~", "[]"
"""Filters that stand for what has no hook in Jinja: its operator `~`, lists written out, what is compared."""

_WRITING = (
    "capitalize",
    "center",
    "e",
    "escape",
    "forceescape",
    "indent",
    "lower",
    "pprint",
    "replace",
    "safe",
    "string",
    "striptags",
    "title",
    "trim",
    "truncate",
    "upper",
    "urlencode",
    "urlize",
    "wordcount",
    "wordwrap",
    "xmlattr",
)
"""Filters that turn what they are given into text first."""

_MOST_DECIMALS = 300
_DEEPEST = 40
"""Levels of JSON that are reckoned with."""


def bounded_filters(sizes: Sizes) -> dict[str, Filter]:
    """All of Jinja's filters, `tojson` as transformers has it, and those that `CONCAT` and `CHECKED` name."""
    filters: dict[str, Filter] = dict(FILTERS)
    for name in _WRITING:
        filters[name] = _measured(filters[name], lambda given: _require_written(sizes, given))
    for name, require in _requirements(sizes).items():
        filters[name] = _measured(filters[name], require)
    filters["tojson"] = _tojson(sizes)
    filters[CONCAT] = _concat(sizes)
    filters[CHECKED] = checked
    return filters


def _measured(original: Filter, require: Callable[[Arguments], None]) -> Filter:
    """A filter whose arguments, by name, are looked at (and may be replaced) first."""
    signature = inspect.signature(original)
    # what belongs to both asynchronous and usual rendering is passed one argument more than it takes
    hidden = hasattr(original, "jinja_async_variant") and not hasattr(
        inspect.unwrap(original), "jinja_pass_arg"
    )

    @functools.wraps(original)
    def measured(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args[1:] if hidden else args, **kwargs)
        bound.apply_defaults()
        require(bound.arguments)
        return original(*args[:1] if hidden else (), *bound.args, **bound.kwargs)

    return measured


def _require_written(sizes: Sizes, given: Arguments) -> None:
    for name, value in given.items():
        if not isinstance(value, str) and name not in ("eval_ctx", "env", "environment", "context"):
            sizes.written(value)


def _requirements(sizes: Sizes) -> dict[str, Callable[[Arguments], None]]:
    """What is asked of the arguments of each filter whose result is larger than they are."""

    def center(given: Arguments) -> None:
        sizes.require_text(given["width"])

    def join(given: Arguments) -> None:
        values = given["value"]
        if given["attribute"] is not None:
            values = map(make_attrgetter(given["eval_ctx"].environment, given["attribute"]), values)
        given["value"], given["attribute"] = list(values), None
        sizes.require_joined(given["d"], given["value"])

    def replace(given: Arguments) -> None:
        sizes.require_replacement(str(given["s"]), str(given["old"]), str(given["new"]))

    def indent(given: Arguments) -> None:
        width = given["width"]
        wide = len(width) if isinstance(width, str) else max(0, width)
        text = str(given["s"])
        sizes.require_text(len(text) + wide * (1 + len(text.splitlines())))

    def wordwrap(given: Arguments) -> None:
        between = given["wrapstring"] or "\n"
        sizes.require_text(len(str(given["s"])) * (1 + len(between)))

    def batch(given: Arguments) -> None:
        require_items(given["linecount"])

    def rounded(given: Arguments) -> None:
        if abs(given["precision"]) > _MOST_DECIMALS:
            raise TooLarge(f"a number of {given['precision']:,} decimals")

    def percent(given: Arguments) -> None:
        sizes.require_percent(str(given["value"]), given["kwargs"] or given["args"])

    def listed(given: Arguments) -> None:
        if isinstance(given["value"], str):
            require_items(len(given["value"]))

    def summed(given: Arguments) -> None:
        if given["attribute"] is not None:
            getter = make_attrgetter(given["environment"], given["attribute"])
            given["iterable"], given["attribute"] = map(getter, given["iterable"]), None
        if isinstance(given["start"], (list, tuple)):  # else they are numbers
            given["iterable"] = list(given["iterable"])
            count_items(given["iterable"])

    return {
        "center": center,
        "join": join,
        "replace": replace,
        "indent": indent,
        "wordwrap": wordwrap,
        "batch": batch,
        "round": rounded,
        "format": percent,
        "list": listed,
        "sum": summed,
    }


def _tojson(sizes: Sizes) -> Filter:
    def tojson(
        x: Any,
        ensure_ascii: bool = False,
        indent: int | str | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        """JSON without HTML's escapes."""
        spaces = indent if isinstance(indent, int) else len(indent or "")
        between = _DEEPEST * max(0, spaces) + sum(len(separator) for separator in separators or ())
        sizes.require_text(sizes.written(x) + count_items(x) * between)
        return json.dumps(
            x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )

    return tojson


def _concat(sizes: Sizes) -> Filter:
    @pass_eval_context
    def concat(eval_ctx: EvalContext, values: list[Any]) -> str:
        sizes.require_joined("", values)
        return markup_join(values) if eval_ctx.autoescape else str_join(values)

    return concat


def checked(value: T) -> T:
    """The same value, unless it holds so many items that comparing it might never end.

    Raises:
        TooLarge: it does.
    """
    count_items(value)
    return value
