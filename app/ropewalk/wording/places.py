"""Where a passage stands, as people say it."""

from __future__ import annotations

from ropewalk.wording.terminal import without_control

_SHOWN = 60


def place_words(file: str, page: int | None, line: int | None, section: str | None = None) -> str:
    """`book.pdf, page 12, line 3`; what is not known is left out."""
    words = [without_control(file)]
    if section:
        words.append(excerpt(section))
    words += [f"{name} {number:,}" for name, number in (("page", page), ("line", line)) if number is not None]
    return ", ".join(words)


def excerpt(text: str) -> str:
    """A text on one line, without what a terminal would obey, its end left out where it is long."""
    line = " ".join(without_control(text).split())
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 2].rstrip()} …"
