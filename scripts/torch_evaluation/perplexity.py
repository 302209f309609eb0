"""Perplexity in torch, truncated as in the papers: one pass over a window, tokens given all before them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from finetuning.planned_model import reserve

Float64 = npt.NDArray[np.float64]

TAIL = 128
"""Tokens at a window's end that are also counted alone: they have all of it before them."""


@dataclass(frozen=True)
class TorchPerplexity:
    """Perplexity at one length.

    Attributes:
        length: tokens of each window.
        windows: how many.
        perplexity: of all tokens but each window's first.
        low: end of its 95% interval, from the spread of the windows' means (Student's t).
        high: the other end.
        tail: of the last `TAIL` tokens of each window.
        tail_low: end of its interval.
        tail_high: the other end.
    """

    length: int
    windows: int
    perplexity: float
    low: float
    high: float
    tail: float
    tail_low: float
    tail_high: float


_T_95 = {4: 2.776, 7: 2.365, 11: 2.201, 15: 2.131}
"""Student's t of 95%, two-sided, by degrees of freedom: one less than windows."""


def perplexities(
    model: PreTrainedModel,
    text: Sequence[int],
    start: int,
    lengths: Sequence[int],
    windows: int,
    *,
    static: bool,
) -> list[TorchPerplexity]:
    """Perplexity at each length, on windows that begin at the same places of a text.

    Args:
        model: with or without a plan.
        text: tokens; windows begin evenly spread over it.
        start: the token that every window begins with.
        lengths: tokens of a window, `start` counted.
        windows: 5, 8, 12 or 16.
        static: whether one pass over the longest window serves the shorter ones.

    Raises:
        ValueError: a text that is too short, or another number of windows.
    """
    longest = max(lengths)
    if windows - 1 not in _T_95:
        raise ValueError(f"windows is {windows}; it must be one of {', '.join(str(n + 1) for n in _T_95)}")
    if len(text) < longest:
        raise ValueError(f"the text has {len(text):,} tokens, and a window takes {longest:,}")
    places = np.linspace(0, len(text) - longest, windows).astype(int)
    at_longest = None
    if static:
        at_longest = _losses(model, [_window(text, place, longest, start) for place in places])
    found = []
    for length in lengths:
        losses = at_longest
        if losses is None:
            losses = _losses(model, [_window(text, place, length, start) for place in places])
        losses = losses[:, : length - 1]
        whole, tail = _interval(losses.mean(1)), _interval(losses[:, -TAIL:].mean(1))
        found.append(TorchPerplexity(length, windows, *whole, *tail))
    return found


def _window(text: Sequence[int], place: int, length: int, start: int) -> list[int]:
    return [start, *text[place : place + length - 1]]


def _losses(model: PreTrainedModel, windows: Sequence[Sequence[int]]) -> Float64:
    """Negative log-probability of every token but the first, in nats, [windows, length - 1]."""
    rows = []
    reserve(model, len(windows[0]))
    for window in windows:
        tokens = torch.tensor([window])
        with torch.no_grad():
            logits = model(tokens, use_cache=False).logits[0, :-1]
            rows.append(torch.nn.functional.cross_entropy(logits.float(), tokens[0, 1:], reduction="none"))
    reserve(model, 0)
    return np.asarray(torch.stack(rows).double().numpy())


def _interval(means: Float64) -> tuple[float, float, float]:
    """Perplexity of the mean of the windows' means, and its 95% interval."""
    n = len(means)
    middle, error = float(means.mean()), float(means.std(ddof=1)) / math.sqrt(n) * _T_95[n - 1]
    return tuple(round(math.exp(value), 4) for value in (middle, middle - error, middle + error))  # type: ignore[return-value]
