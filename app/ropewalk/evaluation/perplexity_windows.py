"""Which stretches of a text perplexity is measured on: the same for every length and every method."""

from __future__ import annotations

from dataclasses import dataclass

from ropewalk.evaluation.perplexity import TextTooShortError, sliding_ends
from ropewalk.wording.quantities import count

DEFAULT_TRUNCATED = 1
DEFAULT_SLIDING = 16


@dataclass(frozen=True)
class Stretch:
    """A part of a text by the numbers of its tokens, from 0.

    Attributes:
        index: from 0, in the order of the text.
        start: of its first token.
        end: behind its last.
    """

    index: int
    start: int
    end: int


def truncated_stretches(n_tokens: int, length: int, n_start: int, wanted: int | None) -> tuple[Stretch, ...]:
    """Windows that begin at evenly spread places, the first at the text's beginning; none overlap.

    Args:
        n_tokens: of the text, without a start token.
        length: tokens of the longest window, the start token included.
        n_start: start tokens that each window begins with.
        wanted: how many; None for as many as fit one behind the other, each `length` after the last (so that
            with a start token one token of the text is passed over, as in llama.cpp's own tool).

    Raises:
        TextTooShortError: the text has not so many.
    """
    body = length - n_start
    starts = range(0, n_tokens - body + 1, length)
    if not starts:
        raise _too_short(n_tokens, body, 1, 0)
    if wanted is None:
        chosen = list(starts)
    elif wanted * body > n_tokens:
        raise _too_short(n_tokens, wanted * body, wanted, n_tokens // body)
    else:
        chosen = _spread(n_tokens - body + 1, wanted)
    return tuple(Stretch(i, start, start + body) for i, start in enumerate(chosen))


def sliding_stretches(
    n_tokens: int, length: int, stride: int, n_start: int, wanted: int | None
) -> tuple[Stretch, ...]:
    """What is scored of sliding windows: `stride` tokens each, the same for windows of every length.

    Args:
        n_tokens: of the text, without a start token.
        length: tokens of the longest window, the start token included.
        stride: tokens scored in each window.
        n_start: start tokens that each window begins with.
        wanted: how many of all windows of the slide, evenly spread; None for all.

    Raises:
        TextTooShortError: the text has not so many.
    """
    body = length - n_start
    ends = sliding_ends(n_tokens, body, stride)
    if len(ends) < (wanted or 1):
        raise _too_short(n_tokens, body + ((wanted or 1) - 1) * stride, wanted or 1, len(ends))
    chosen = ends if wanted is None else [ends[at] for at in _spread(len(ends), wanted)]
    return tuple(Stretch(i, end - stride, end) for i, end in enumerate(chosen))


def _spread(n_places: int, wanted: int) -> list[int]:
    """Places from the first to the last, evenly spread; the first alone where one is wanted."""
    return [i * (n_places - 1) // max(1, wanted - 1) for i in range(wanted)]


def _too_short(n_tokens: int, needed: int, wanted: int, possible: int) -> TextTooShortError:
    remedy = f"use --windows {possible}, " if possible else ""
    windows = "the longest window" if wanted == 1 else f"{count(wanted, 'window')}"
    return TextTooShortError(
        f"The text has {n_tokens:,} tokens of this model, and {windows} would take {needed:,}: "
        f"{remedy}give a longer text, or shorter lengths."
    )
