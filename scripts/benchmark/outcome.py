"""What a measurement ends with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """A measurement's results.

    Attributes:
        text: Markdown, for people.
        record: every number behind it, for programs.
        complete: False where it was interrupted: then it is of what was measured until then.
        failure: why what had to hold does not hold, in a sentence; "" where it does.
    """

    text: str
    record: dict[str, Any] = field(default_factory=dict)
    complete: bool = True
    failure: str = ""
