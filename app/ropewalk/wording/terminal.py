"""Texts of anybody's, as a terminal may be given them."""

from __future__ import annotations

import unicodedata

_LINE_BREAKS_AND_TABS = "\n\t"
_TURNERS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Turn the direction of what follows, beyond the text they stand in: of a table's other cells, for one."""


def without_control(text: str) -> str:
    """A text without what a terminal obeys instead of showing it: control characters but newlines and tabs.

    A document can spell escape sequences (colours, titles, keys' new meanings), and a model can repeat them.
    What turns the direction of writing goes, too: it reaches beyond the text that has it.
    """
    if text.isprintable():
        return text
    return "".join(
        c
        for c in text
        if c in _LINE_BREAKS_AND_TABS or not (c in _TURNERS or unicodedata.category(c) == "Cc")
    )
