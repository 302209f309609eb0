"""Token by token, an answer. Runs in the model process."""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable
from typing import Literal

from ropewalk.backend.context import Context, DecodeStatus
from ropewalk.backend.errors import BackendError
from ropewalk.backend.sampler import Sampler
from ropewalk.engine.results import GenerationResult, Piece
from ropewalk.engine.sampling import SamplingOptions
from ropewalk.engine.sequence import TokenSequence
from ropewalk.engine.speculation import SpeculativeText

Reason = Literal["stop", "length", "cancelled"]


class _Answer:
    """The text so far; bytes wait until they make whole characters."""

    def __init__(self, on_piece: Callable[[Piece], None]) -> None:
        self.tokens: list[int] = []
        self.texts: list[str] = []
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._on_piece = on_piece

    def add(self, token: int, token_bytes: bytes) -> None:
        self.tokens.append(token)
        self._emit(self._decoder.decode(token_bytes))

    def end(self) -> None:
        self._emit(self._decoder.decode(b"", final=True))

    def _emit(self, text: str) -> None:
        if text:
            self.texts.append(text)
            self._on_piece(Piece(text, len(self.tokens)))


def generate(
    sequence: TokenSequence,
    *,
    max_tokens: int,
    sampling: SamplingOptions,
    stop_at_eog: bool,
    on_piece: Callable[[Piece], None],
    draft: int | None = None,
) -> GenerationResult:
    """Goes on from what the sequence has read last.

    Every token but the last one of the answer is then held by the context.

    Args:
        sequence: with the logits of its last token.
        max_tokens: most tokens of the answer.
        sampling: how each is chosen.
        stop_at_eog: whether an end token ends it.
        on_piece: told each piece as it comes.
        draft: most tokens computed ahead at once, copied from the text; 0 for none, None for the default.

    Raises:
        BackendError: nothing was read, or reading it was cancelled; or `draft` is negative.
    """
    start = time.perf_counter()
    if not sequence.has_logits:
        raise BackendError("there is nothing to go on from: read a prompt first, to its end")
    answer = _Answer(on_piece)
    text = SpeculativeText(sequence, draft)
    with Sampler(
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        min_p=sampling.min_p,
        seed=sampling.seed,
    ) as sampler:
        try:
            reason = _run(
                sequence.context, text, sampler, answer, max_tokens=max_tokens, stop_at_eog=stop_at_eog
            )
        finally:
            text.close()
            sequence.has_logits = False
    answer.end()
    return GenerationResult(
        text="".join(answer.texts),
        tokens=len(answer.tokens),
        seconds=time.perf_counter() - start,
        reason=reason,
        token_ids=tuple(answer.tokens),
        drafted=text.drafted,
        accepted=text.accepted,
    )


def _run(
    context: Context,
    text: SpeculativeText,
    sampler: Sampler,
    answer: _Answer,
    *,
    max_tokens: int,
    stop_at_eog: bool,
) -> Reason:
    vocabulary = context.model.vocabulary
    while len(answer.tokens) < max_tokens:
        token = sampler.sample(context, text.row)
        if stop_at_eog and vocabulary.is_end(token):
            return "stop"
        answer.add(token, vocabulary.piece(token))
        wanted = max_tokens - len(answer.tokens)
        if wanted == 0 or text.is_full:
            return "length"
        if text.append(token, wanted) is DecodeStatus.ABORTED:
            return "cancelled"
    return "length"
