"""Words of the command line, as text."""

from __future__ import annotations

import re

_HALVES = re.compile("[\ud800-\udfff]")


def readable(argument: str) -> str:
    """An argument with U+FFFD for bytes that are no text, which Python keeps as halves of characters.

    A command line in another encoding has them; no JSON, terminal or model has.
    """
    return _HALVES.sub("\ufffd", argument)
