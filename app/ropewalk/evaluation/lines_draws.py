"""What is drawn at random for a prompt: the same for the same seed, on every machine."""

from __future__ import annotations

import hashlib
import uuid

from ropewalk.evaluation.lines_words import ADJECTIVES, NOUNS

N_NAMES = len(ADJECTIVES) * len(NOUNS)
"""Names of two words that there are."""


def draw(below: int, *what: object) -> int:
    """A number from 0 to `below` - 1 (at most 2^32), which follows from what it is drawn for.

    Args:
        below: how many there are to draw from.
        what: says what it is for, the seed among it; integers and words, which read the same everywhere.
    """
    return _bits(what) % below


def drawn_name(*what: object) -> str:
    """Two words: `torpid-kid`."""
    adjective, noun = divmod(draw(N_NAMES, *what), len(NOUNS))
    return f"{ADJECTIVES[adjective]}-{NOUNS[noun]}"


def drawn_number(*what: object) -> str:
    """Five digits, the first of them not 0."""
    return str(10000 + draw(90000, *what))


def drawn_uuid(*what: object) -> str:
    """A random UUID (version 4): 36 characters."""
    return str(uuid.UUID(int=_bits(what), version=4))


def _bits(what: tuple[object, ...]) -> int:
    """128 of them."""
    digest = hashlib.sha256(" ".join(("ropewalk", *map(str, what))).encode()).digest()
    return int.from_bytes(digest[:16], "big")
