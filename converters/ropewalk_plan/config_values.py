"""Typed reading of a checkpoint's `config.json`; a refusal names file, key, value and what is allowed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ropewalk_plan.plan import PlanError

CONFIG_NAME = "config.json"


class MissingKeyError(PlanError):
    """A `config.json` without a key that has to be there."""


@dataclass(frozen=True)
class ConfigValues:
    """An object of a `config.json`, or one inside it.

    Keys that hold null count as absent, as they do for transformers.

    Attributes:
        path: the file, for messages.
        values: the object.
        inside: the keys that lead to it, each with a point behind it; empty at the top.
    """

    path: Path
    values: Mapping[str, object]
    inside: str = ""

    def refusal(self, key: str, allowed: str) -> PlanError:
        """The sentence for a value that is not allowed."""
        value = json.dumps(self.values.get(key), default=str)
        shown = value if len(value) <= 60 else f"{value[:57]}..."
        return PlanError(f"{self.path}: {self.inside}{key} is {shown}; it must be {allowed}")

    def missing(self, key: str, remedy: str) -> MissingKeyError:
        """The sentence for a key that has to be there."""
        return MissingKeyError(f"{self.path} has no {self.inside}{key}; {remedy}")

    def first_of(self, *keys: str) -> str | None:
        """The first of `keys` that is there, or None."""
        return next((key for key in keys if self.values.get(key) is not None), None)

    def number(self, *keys: str, above: float = -math.inf, at_least: float = -math.inf) -> float | None:
        """The number under the first of `keys` that is there, or None where none is.

        Raises:
            PlanError: it is no finite number, or outside the limits.
        """
        key = self.first_of(*keys)
        if key is None:
            return None
        value = self.values[key]
        allowed = "a number" if above == -math.inf else f"a number above {above:g}"
        if at_least > -math.inf:
            allowed = f"a number of at least {at_least:g}"
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.refusal(key, allowed)
        if not (math.isfinite(value) and value > above and value >= at_least):
            raise self.refusal(key, allowed)
        return float(value)

    def whole(self, *keys: str) -> int | None:
        """The whole number above 0 under the first of `keys` that is there, or None where none is.

        Raises:
            PlanError: it is anything else.
        """
        key = self.first_of(*keys)
        if key is None:
            return None
        value = self.values[key]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0 or value % 1 != 0:
            raise self.refusal(key, "a whole number above 0")
        return int(value)

    def flag(self, key: str, default: bool = False) -> bool:
        """The truth value under `key`.

        Raises:
            PlanError: it is something else.
        """
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.refusal(key, "true or false")
        return value

    def text(self, *keys: str) -> str | None:
        """The string under the first of `keys` that is there, or None where none is.

        Raises:
            PlanError: it is not a string.
        """
        key = self.first_of(*keys)
        if key is None:
            return None
        value = self.values[key]
        if not isinstance(value, str):
            raise self.refusal(key, "a string")
        return value

    def positive_numbers(self, key: str, count: int) -> tuple[float, ...]:
        """The list of `count` numbers above 0 under `key`.

        Raises:
            PlanError: there is none, or it is something else.
        """
        value = self.values.get(key)
        if value is None:
            raise self.missing(key, f"it must be a list of {count} numbers above 0")
        if not isinstance(value, list) or len(value) != count:
            found = f" (it has {len(value)})" if isinstance(value, list) else ""
            raise self.refusal(key, f"a list of {count} numbers above 0, one for each rotary pair{found}")
        for number in value:
            usable = isinstance(number, (int, float)) and not isinstance(number, bool)
            if not usable or not (math.isfinite(number) and number > 0):
                raise self.refusal(key, f"a list of {count} numbers above 0")
        return tuple(float(number) for number in value)

    def section(self, *keys: str) -> ConfigValues | None:
        """The object under the first of `keys` that is there, or None where none is.

        Raises:
            PlanError: it is not an object.
        """
        key = self.first_of(*keys)
        if key is None:
            return None
        value = self.values[key]
        if not isinstance(value, dict):
            raise self.refusal(key, "an object")
        return ConfigValues(self.path, value, f"{self.inside}{key}.")


def read_config(folder_or_file: Path) -> ConfigValues:
    """Read the `config.json` of a checkpoint's folder, or a file of that form.

    Raises:
        PlanError: there is none, it cannot be read, or it is not a JSON object.
    """
    path = folder_or_file / CONFIG_NAME if folder_or_file.is_dir() else folder_or_file
    if not path.is_file():
        if path.parent == folder_or_file:
            raise PlanError(f"{folder_or_file} has no {CONFIG_NAME}; name a folder that holds a checkpoint")
        raise PlanError(f"{path} is not there; name a checkpoint's folder or its {CONFIG_NAME}")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
    except (ValueError, RecursionError) as error:
        raise PlanError(f"{path} is not JSON ({error}); fetch the checkpoint again") from error
    if not isinstance(values, dict):
        raise PlanError(f"{path} holds no JSON object; name a checkpoint's {CONFIG_NAME}")
    return ConfigValues(path, values)
