"""Perplexity by the length of the context, in the two ways of the literature.

Truncated: a text cut to the length, all of its tokens scored in one pass. Early tokens have little before
them, so it falls as the length grows, for any model that works. Sliding (Press et al. 2022, "Train Short,
Test Long", appendix B): of each window the last tokens alone are scored, so that each has nearly the whole
window before it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ropewalk.engine import Engine, ModelDescription
from ropewalk.evaluation.token_blocks import MeanLoss, mean_loss, run_sums

Mode = Literal["truncated", "sliding"]
Progress = Callable[[int, int], None]
"""Told tokens computed and tokens to compute."""


class TextTooShortError(Exception):
    """The text has fewer tokens than were asked for; the message is a sentence with the number."""


class NoNumbersError(Exception):
    """A model computes what is no number; the message is a sentence that says where."""


@dataclass(frozen=True)
class PerplexityResult:
    """How well a model foresees a text.

    Attributes:
        method: the label of the plan in force.
        mode: in which of the two ways.
        length: tokens of the window, the start token included.
        stride: tokens scored in each window where it slides; None otherwise.
        n_scored: tokens whose probabilities count.
        nll: sum of their negative log-likelihoods, in nats.
        run_nll: the same by runs of neighbours (`token_blocks.run_sums`), what intervals are made of.
        seconds: that computing them took.
    """

    method: str
    mode: Mode
    length: int
    stride: int | None
    n_scored: int
    nll: float
    run_nll: tuple[float, ...]
    seconds: float

    @property
    def perplexity(self) -> float:
        """The exponential of the mean loss."""
        return exponential(self.nll / self.n_scored)

    @property
    def interval(self) -> tuple[float, float] | None:
        """95% interval of the perplexity, neighbours being correlated; None where there are few tokens."""
        return interval_of(mean_loss([(self.n_scored, self.run_nll)]))


def exponential(loss: float) -> float:
    """exp, infinite where it is too large."""
    return math.exp(loss) if loss < 700 else math.inf


def interval_of(loss: MeanLoss) -> tuple[float, float] | None:
    """A mean loss's interval as one of perplexities, or of their ratios."""
    if loss.half_width is None:
        return None
    return exponential(loss.mean - loss.half_width), exponential(loss.mean + loss.half_width)


def start_tokens(engine: Engine) -> list[int]:
    """The tokens that the loaded model wants before any text: its start token, or none."""
    bare, started = engine.tokenize("a", add_special=False), engine.tokenize("a")
    at = next((i for i in range(len(started)) if started[i : i + len(bare)] == bare), 0)
    return started[:at]


def first_scored(length: int, score_from: float) -> int:
    """Index of the first token that counts in a window; the one at index 0 has nothing before it.

    With 0.5 it is as in llama.cpp's own tool: the token in the middle is the first that others are foreseen
    from.
    """
    return max(1, math.floor(length * score_from) + 1)


def truncated_work(lengths: Sequence[int], model: ModelDescription) -> int:
    """Tokens that `truncated` computes for a window."""
    return sum(lengths) if _has_steps(model) else max(lengths)


def truncated(
    engine: Engine,
    tokens: Sequence[int],
    lengths: Sequence[int],
    *,
    method: str,
    on_progress: Progress | None = None,
    score_from: float = 0.0,
) -> tuple[PerplexityResult, ...]:
    """Perplexities of a text cut to each of some lengths; see `truncated_steps`."""
    return tuple(
        truncated_steps(
            engine, tokens, lengths, method=method, on_progress=on_progress, score_from=score_from
        )
    )


def truncated_steps(
    engine: Engine,
    tokens: Sequence[int],
    lengths: Sequence[int],
    *,
    method: str,
    on_progress: Progress | None = None,
    score_from: float = 0.0,
) -> Iterator[PerplexityResult]:
    """Perplexities of a text cut to each of some lengths, the shortest first, each as soon as it is there.

    One pass over the longest gives all of them, as what comes later changes nothing before it. Under a
    schedule it does: frequencies follow the length of the whole, and each length is read by itself, in a
    context of its own.

    Args:
        engine: has the model loaded, with a context that is long enough.
        tokens: the text, with the start token where the model wants one.
        lengths: tokens to cut it to, each at least 2.
        method: the label of the plan in force.
        on_progress: told tokens computed and to compute.
        score_from: share of each length from which on tokens count; see `first_scored`.

    Raises:
        TextTooShortError: the text has fewer tokens than the longest.
        NoNumbersError: the model computes something else.
        EngineError: it cannot be computed.
    """
    lengths = sorted(set(lengths))
    require_tokens(tokens, lengths[-1])
    model = _model(engine)
    apart, work = _has_steps(model), truncated_work(lengths, model)
    losses: list[float] = []
    seconds, before = 0.0, 0
    engine.drop_all_sequences()  # another text would take the room
    for length in lengths:
        begun = time.perf_counter()
        if apart:
            losses, seconds = [], 0.0
            _make_context(engine, length)
        if len(losses) < length - 1:
            # a stream does not go back by the token that the next length would begin with
            end = lengths[-1] if model.streams else length
            first = len(losses) + 1
            tell = _shifted(on_progress, before, work, least=first if losses else 0)
            scores = engine.score(tokens[:end], tell, first=first)
            losses += _losses(scores, method)
        seconds += time.perf_counter() - begun
        before += length if apart else 0
        counted = losses[first_scored(length, score_from) - 1 : length - 1]
        yield _result(counted, seconds, method=method, mode="truncated", length=length)


def sliding_ends(n_tokens: int, window: int, stride: int) -> range:
    """Where the windows of a slide over a text end: from the first whole one on, as far as there is text."""
    return range(window, n_tokens + 1, stride)


def sliding(
    engine: Engine,
    tokens: Sequence[int],
    window: int,
    stride: int,
    *,
    method: str,
    on_progress: Progress | None = None,
    ends: Sequence[int] | None = None,
    start: Sequence[int] = (),
) -> PerplexityResult:
    """The perplexity of a text whose tokens each have nearly `window` tokens before them.

    Each window is read anew, from position 0 on, and its last `stride` tokens are scored, which have from
    `window - stride` to `window - 1` tokens before them.

    Args:
        engine: has the model loaded, with a context of at least `window` tokens.
        tokens: the text, without a start token.
        window: tokens of a window, its start token included.
        stride: tokens scored in each, less than `window`.
        method: the label of the plan in force.
        on_progress: told tokens computed and to compute.
        ends: where windows end in `tokens`; None for `sliding_ends`.
        start: tokens that each window begins with: `start_tokens`.

    Raises:
        TextTooShortError: the text is shorter than a window.
        NoNumbersError: the model computes something else.
        EngineError: it cannot be computed.
    """
    started = time.perf_counter()
    engine.drop_all_sequences()  # another text would take the room
    body = window - len(start)
    require_tokens(tokens, body)
    chosen = list(sliding_ends(len(tokens), body, stride)) if ends is None else ends
    if _has_steps(_model(engine)):
        _make_context(engine, window)
    losses: list[float] = []
    for i, end in enumerate(chosen):
        read = [*start, *tokens[end - body : end]]
        tell = _shifted(on_progress, i * window, len(chosen) * window)
        engine.drop_sequence(0)
        losses += _losses(engine.score(read, tell, first=window - stride), method)
    seconds = time.perf_counter() - started
    return _result(losses, seconds, method=method, mode="sliding", length=window, stride=stride)


def require_tokens(
    tokens: Sequence[int], needed: int, remedy: str = "give a longer text, or shorter lengths"
) -> None:
    """Refuse a text that is too short.

    Raises:
        TextTooShortError: with both numbers.
    """
    if len(tokens) < needed:
        raise TextTooShortError(
            f"The text has {len(tokens):,} tokens of this model, and {needed:,} are needed: {remedy}."
        )


def _result(
    losses: Sequence[float],
    seconds: float,
    *,
    method: str,
    mode: Mode,
    length: int,
    stride: int | None = None,
) -> PerplexityResult:
    sums = run_sums(losses)
    return PerplexityResult(method, mode, length, stride, len(losses), math.fsum(sums), sums, seconds)


def _losses(scores: Sequence[float], method: str) -> list[float]:
    if not all(map(math.isfinite, scores)):
        raise NoNumbersError(
            f"Under {method} the model computes no number for a token of the text: try another --kv-type, "
            "or shorter lengths."
        )
    return [-score for score in scores]


def _make_context(engine: Engine, n_ctx: int) -> None:
    """An empty context for exactly so many tokens: quantized keys get the frequencies of a full one."""
    engine.drop_all_sequences()
    engine.resize(n_ctx)


def _shifted(on_progress: Progress | None, before: int, work: int, least: int = 0) -> Progress | None:
    """Tells of a part of the work, behind which `before` tokens lie; `least` of its own are known already."""
    if on_progress is None:
        return None
    tell = on_progress
    return lambda done, _total: tell(before + max(done, least), work)


def _model(engine: Engine) -> ModelDescription:
    assert engine.model is not None, "no model is loaded"
    return engine.model


def _has_steps(model: ModelDescription) -> bool:
    return model.plan is not None and len(model.plan.schedule) > 1
