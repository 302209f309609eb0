"""Frozen dataclasses to plain JSON values and back, by their type hints; nothing else can come out.

Handled: dataclasses, enums, tuples, `X | None`, `Literal`, `Path`, `date`, str, bool, int, float, None. Long
tuples of integers, the tokens of a text, become a string of their bytes.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import types
import typing
from collections.abc import Sequence
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")


_PACKED = "int32"
_PACKED_FROM = 256
"""Integers from which on a tuple of them is packed."""


class CodecError(ValueError):
    """A value that is not of the type its place asks for."""


def to_plain(value: object) -> object:
    """JSON values for a dataclass, or anything it may hold.

    Raises:
        CodecError: it holds something else.
    """
    if dataclasses.is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return _list(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise CodecError(f"a {type(value).__name__} cannot be sent")


def from_plain(kind: type[T], plain: object) -> T:
    """The `kind` that JSON values stand for.

    Raises:
        CodecError: they do not stand for one.
    """
    value = _from_plain(kind, plain)
    assert isinstance(value, kind)
    return value


def _from_plain(hint: object, plain: object) -> object:
    origin = typing.get_origin(hint)
    if origin is tuple:
        return _tuple(typing.get_args(hint), plain)
    if origin in (typing.Union, types.UnionType):
        return _union(typing.get_args(hint), plain)
    if origin is typing.Literal:
        if plain not in typing.get_args(hint):
            raise CodecError(f"{plain!r} is none of {typing.get_args(hint)}")
        return plain
    if isinstance(hint, type):
        return _scalar_or_dataclass(hint, plain)
    raise CodecError(f"{hint} cannot be received")


def _scalar_or_dataclass(hint: type[object], plain: object) -> object:
    if hint in (str, bool, int, type(None)):
        if type(plain) is not hint:
            raise CodecError(f"{plain!r} is not {hint.__name__}")
        return plain
    if hint is float:
        if isinstance(plain, bool) or not isinstance(plain, (int, float)):
            raise CodecError(f"{plain!r} is not a number")
        return float(plain)
    if hint is Path:
        return Path(from_plain(str, plain))
    if hint is date:
        try:
            return date.fromisoformat(from_plain(str, plain))
        except ValueError as error:
            raise CodecError(str(error)) from error
    if issubclass(hint, Enum):
        try:
            return hint(plain)
        except ValueError as error:
            raise CodecError(str(error)) from error
    if dataclasses.is_dataclass(hint):
        return _dataclass(hint, plain)
    raise CodecError(f"{hint} cannot be received")


def _list(values: tuple[object, ...]) -> object:
    if not _all_integers(values):
        return [to_plain(item) for item in values]
    if len(values) >= _PACKED_FROM:
        try:
            wide = np.array(values, dtype=np.int64)
        except OverflowError:
            return list(values)
        packed = wide.astype("<i4")
        if np.array_equal(packed, wide):
            return {_PACKED: base64.b64encode(packed.tobytes()).decode("ascii")}
    return list(values)


def _unpacked(plain: object) -> tuple[int, ...]:
    try:
        data = base64.b64decode(from_plain(str, plain), validate=True)
        return tuple(np.frombuffer(data, dtype="<i4").tolist())
    except (binascii.Error, ValueError) as error:
        raise CodecError(f"these are not packed integers: {error}") from error


def _tuple(items: tuple[object, ...], plain: object) -> tuple[object, ...]:
    if items == (int, ...) and isinstance(plain, dict) and set(plain) == {_PACKED}:
        return _unpacked(plain[_PACKED])
    if not isinstance(plain, list):
        raise CodecError(f"{plain!r} is not a list")
    if len(items) == 2 and items[1] is ...:
        if items[0] is int and _all_integers(plain):
            return tuple(plain)
        return tuple(_from_plain(items[0], item) for item in plain)
    if len(items) != len(plain):
        raise CodecError(f"a list of {len(plain)} stands where {len(items)} belong")
    return tuple(_from_plain(hint, item) for hint, item in zip(items, plain, strict=True))


def _all_integers(values: Sequence[object]) -> bool:
    """A way past the item-by-item path, for the tokens of a long text."""
    return set(map(type, values)) <= {int}


def _union(hints: tuple[object, ...], plain: object) -> object:
    for hint in hints:
        try:
            return _from_plain(hint, plain)
        except CodecError:
            continue
    raise CodecError(f"{plain!r} is none of {hints}")


def _dataclass(kind: type[Any], plain: object) -> object:
    hints = _field_hints(kind)
    if not isinstance(plain, dict) or set(plain) != set(hints):
        raise CodecError(f"these are not the fields of {kind.__name__}")
    try:
        return kind(**{name: _from_plain(hint, plain[name]) for name, hint in hints.items()})
    except ValueError as error:  # of a field, or the dataclass's own checks
        raise CodecError(str(error)) from error


def _field_hints(kind: type[Any]) -> dict[str, object]:
    if kind not in _FIELD_HINTS:
        hints = typing.get_type_hints(kind)
        _FIELD_HINTS[kind] = {field.name: hints[field.name] for field in dataclasses.fields(kind)}
    return _FIELD_HINTS[kind]


_FIELD_HINTS: dict[type[Any], dict[str, object]] = {}
