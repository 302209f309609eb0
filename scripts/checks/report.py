"""docs/checks.md: each check's last output, between two markers that name it."""

from __future__ import annotations

import datetime
import os
import platform
import resource
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from checks.trees import Tree
from provision.failure import ProvisionError
from provision.progress import duration


def put(page: Path, name: str, text: str) -> None:
    """Replace what stands between the markers of `name`.

    Args:
        page: a Markdown file with the markers `<!-- begin NAME -->` and `<!-- end NAME -->`.
        name: of the check.
        text: Markdown.

    Raises:
        ProvisionError: the page has not exactly one pair of these markers.
    """
    begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, found_end, after = rest.partition(end)
    if not found or not found_end or begin in rest:
        raise ProvisionError(f"{page.name} needs one {begin.strip()} and, after it, {end}; put them back.")
    temporary = page.with_name(f".{page.name}.tmp")
    temporary.write_text(f"{before}{begin}{text.strip()}\n{end}{after}", encoding="utf-8")
    temporary.replace(page)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a bar in a cell is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


@dataclass(frozen=True)
class Moment:
    """A point in time, to measure from.

    Attributes:
        clock: seconds on the wall.
        processor: seconds that the programs run so far have computed.
    """

    clock: float
    processor: float

    @classmethod
    def now(cls) -> Moment:
        """This one."""
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return cls(time.monotonic(), used.ru_utime + used.ru_stime)


def heading(tree: Tree, since: Moment, command: str) -> str:
    """What was run, on what, when, and how long it took, in all and of all cores."""
    day = datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat()
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}"
    end = Moment.now()
    took = duration(end.clock - since.clock)
    computed = duration(end.processor - since.processor)
    return (
        f"`{command}`, {day}: llama.cpp of {tree.version}, patches {tree.patches[:12]}; {machine}; {took} "
        f"({computed} of processor time)."
    )
