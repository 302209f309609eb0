"""Answers of tiny models with drafts of every kind: right, wrong, both, and none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from ropewalk.backend.context import Context, ContextParams, Logits
from ropewalk.backend.model import Model
from ropewalk.engine import speculation
from ropewalk.engine.generation import generate
from ropewalk.engine.results import GenerationResult, Piece
from ropewalk.engine.sampling import GREEDY, SamplingOptions
from ropewalk.engine.sequence import TokenSequence
from ropewalk.engine.speculation import MAX_DRAFT
from ropewalk_plan import ContextPlan

Draft = Callable[[Sequence[int], int], Sequence[int]]
"""(the text so far, most tokens) to the tokens to compute ahead."""


@dataclass
class Drafts:
    """What is drafted in place of what the prompt lookup would."""

    draft: Draft
    made: list[tuple[int, int]] = field(default_factory=list)
    """Of each draft: the text's length before it, and the tokens drafted."""

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Takes the lookup's place."""
        drafts = self

        class Drafter:
            def __init__(self, tokens: Sequence[int]) -> None:
                self._text = list(tokens)

            def append(self, token: int) -> None:
                self._text.append(token)

            def draft(self, most: int) -> tuple[int, ...]:
                draft = tuple(drafts.draft(self._text, most))[:most]
                drafts.made.append((len(self._text), len(draft)))
                return draft

            def note(self, accepted: int) -> None:
                pass

        monkeypatch.setattr(speculation, "PromptDrafter", Drafter)


def partly_right(text: Sequence[int], seed: int) -> Draft:
    """Drafts of random lengths of a known text, each right up to a random place."""
    rng = np.random.default_rng(seed)

    def draft(so_far: Sequence[int], most: int) -> Sequence[int]:
        count = int(rng.integers(0, most + 1))
        right = [int(token) for token in text[len(so_far) : len(so_far) + count]]
        wrong_from = int(rng.integers(0, count + 1))
        return [
            token if i < wrong_from or rng.random() < 0.5 else (token + 1) % 360
            for i, token in enumerate(right)
        ]

    return draft


def wrong(text: Sequence[int], count: int) -> Draft:
    """Drafts of so many tokens, none of them right."""
    return lambda so_far, most: [(token + 1) % 360 for token in text[len(so_far) :]][: min(count, most)]


@contextmanager
def opened(
    path: Path,
    params: ContextParams,
    plan: ContextPlan | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[TokenSequence]:
    """An empty sequence of a model in a context of its own, in this process."""
    model = Model.load(path, gpu_layers=0)
    try:
        if plan is not None:
            model.set_plan(plan)
        context = Context(model, params)
        try:
            yield TokenSequence(context, should_stop)
        finally:
            context.close()
    finally:
        model.close()


def tiny_params(n_ctx: int = 512, kv_type: str = "f32", n_ubatch: int = 32) -> ContextParams:
    """A context for tiny models, with room for the longest draft's logits."""
    return ContextParams(
        n_ctx, n_batch=n_ubatch, n_ubatch=n_ubatch, n_outputs=1 + MAX_DRAFT, threads=1, kv_type=kv_type
    )


def read(sequence: TokenSequence, prompt: Sequence[int]) -> None:
    """Reads a prompt."""
    sequence.read(prompt, lambda _done, _total: None)


def answer(
    sequence: TokenSequence,
    count: int,
    draft: int | None,
    *,
    sampling: SamplingOptions = GREEDY,
    stop_at_eog: bool = False,
    on_piece: Callable[[Piece], None] = lambda _piece: None,
) -> GenerationResult:
    """Goes on from what was read."""
    return generate(
        sequence,
        max_tokens=count,
        sampling=sampling,
        stop_at_eog=stop_at_eog,
        on_piece=on_piece,
        draft=draft,
    )


def rows_of(sequence: TokenSequence, text: Sequence[int], first: int) -> Logits:
    """Logits that chose the tokens of a text from `first` on, each computed alone: [tokens, vocabulary]."""
    read(sequence, text[:first])
    rows = []
    for token in text[first:]:
        rows.append(sequence.context.logits()[-1])
        sequence.append([token])
    return np.stack(rows)


def first_difference(first: Sequence[int], second: Sequence[int]) -> int | None:
    """Where two answers part; None where they do not."""
    pairs = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), None)
