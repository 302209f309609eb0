"""The page of results, of which each measurement writes its own part and leaves the others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from provision.failure import ProvisionError
from ropewalk.evaluation.results import write_whole


@dataclass(frozen=True)
class Section:
    """One part of the page.

    Attributes:
        name: of its markers.
        command: what made it.
        text: Markdown: sentences and tables.
    """

    name: str
    command: str
    text: str

    @property
    def begin(self) -> str:
        """The line before it."""
        return f"<!-- bench:{self.name} -->"

    @property
    def end(self) -> str:
        """The line after it."""
        return f"<!-- bench:{self.name} end -->"

    @property
    def content(self) -> str:
        """What stands between the markers."""
        return f"    {self.command}\n\n{self.text.strip()}"


def with_section(page: str, section: Section) -> str:
    """A page with this section in place of what stood between its markers.

    Raises:
        ProvisionError: the page has not each of the markers once.
    """
    if page.count(section.begin) != 1 or page.count(section.end) != 1:
        raise ProvisionError(
            f"the page of results must have the lines {section.begin} and {section.end} once each: add them"
        )
    pattern = re.escape(section.begin) + ".*?" + re.escape(section.end)
    new = f"{section.begin}\n{section.content}\n{section.end}"
    changed, count = re.subn(pattern, lambda _: new, page, flags=re.DOTALL)
    if count != 1:
        raise ProvisionError(f"the page of results has {section.end} before {section.begin}: exchange them")
    return changed


def write_section(path: Path, section: Section) -> None:
    """Write a section into the page at `path` (see `with_section`)."""
    write_whole(path, with_section(path.read_text(encoding="utf-8"), section).encode())


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all but the first column are numbers, and stand at the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
