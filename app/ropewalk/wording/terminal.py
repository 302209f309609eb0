"""Texts of anybody's, as a terminal may be given them."""

from __future__ import annotations

import unicodedata

_LINE_BREAKS_AND_TABS = "\n\t"


def without_control(text: str) -> str:
    """A text without what a terminal obeys instead of showing it: control characters but newlines and tabs.

    A document can spell escape sequences (colours, titles, keys' new meanings), and a model can repeat them.
    """
    if text.isprintable():
        return text
    return "".join(c for c in text if c in _LINE_BREAKS_AND_TABS or unicodedata.category(c) != "Cc")
