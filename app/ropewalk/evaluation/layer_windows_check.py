"""The check of a set of windowed layers on fresh prompts: hits, text, and time and memory in turns."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ropewalk.engine import Cancelled, Engine
from ropewalk_plan import ContextPlan

HITS, TEXT, TURN = "check", "check-text", "turn"
"""What a row of a results file is of: one answer, one scored text, one reading with its answer."""

_DECODED = 32
"""Tokens written in a turn."""

TurnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Compared:
    """One of the two plans of a check.

    Attributes:
        label: as rows name it.
        plan: None for the plain model.
    """

    label: str
    plan: ContextPlan | None


def turns_left(
    rows: Sequence[Mapping[str, Any]], plans: Sequence[Compared], pairs: int
) -> list[tuple[int, Compared]]:
    """The readings that are still to be made, in their order: each pair begins with the other plan.

    A pair that was broken off is made again as a whole: its halves are compared with each other.
    """
    turns = [(row["turn"], row["plan"]) for row in rows if row.get("part") == TURN]
    done = {turn for turn in range(pairs) if {label for t, label in turns if t == turn} == _labels(plans)}
    return [
        (turn, plan)
        for turn in range(pairs)
        if turn not in done
        for plan in (plans if turn % 2 == 0 else plans[::-1])
    ]


def take_turn(
    engine: Engine, compared: Compared, tokens: Sequence[int], tell: TurnProgress, *, n_ctx: int, turn: int
) -> dict[str, Any]:
    """Read a text from its beginning and write a little, by the clock.

    Args:
        engine: a loaded model.
        compared: the plan.
        tokens: the text.
        tell: told of every batch.
        n_ctx: tokens of the context, which has room for the answer too.
        turn: number of the pair, from 0.

    Returns:
        A row of JSON values; `kv_bytes` is what the library says that the context's keys and values take.

    Raises:
        Cancelled: by `Engine.cancel`.
    """
    engine.use_plan(compared.plan, n_ctx)
    prefill = engine.prefill(tokens, tell)
    if prefill.cancelled:
        raise Cancelled("the check was stopped: what was measured by then is kept")
    start = time.perf_counter()
    generation = engine.generate(_DECODED, stop_at_eog=False, draft=0)
    for _ in generation:
        pass
    return {
        "part": TURN,
        "turn": turn,
        "plan": compared.label,
        "n_ctx": n_ctx,
        "kv_bytes": sum(device.cache for device in engine.memory().devices),
        "prompt_tokens": prefill.prompt_tokens,
        "prefill_seconds": prefill.seconds,
        "decoded_tokens": generation.result.tokens,
        "decode_seconds": time.perf_counter() - start,
    }


def turn_context(n_tokens: int) -> int:
    """Tokens of context that a turn over so many tokens needs."""
    return n_tokens + _DECODED


def score_text(
    engine: Engine,
    compared: Compared,
    tokens: Sequence[int],
    tell: TurnProgress,
    *,
    n_ctx: int,
    n_scored: int,
) -> dict[str, Any]:
    """The log-probability of the last `n_scored` tokens of a text, as a row of JSON values."""
    engine.use_plan(compared.plan, n_ctx)
    scores = engine.score(tokens, tell, first=len(tokens) - n_scored)
    return {
        "part": TEXT,
        "plan": compared.label,
        "tokens": len(tokens),
        "scored": n_scored,
        "log_probability": math.fsum(scores),
    }


def _labels(plans: Sequence[Compared]) -> set[str]:
    return {compared.label for compared in plans}
