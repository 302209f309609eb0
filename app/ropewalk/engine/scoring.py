"""How likely the tokens of a text are to a model. Runs in the model process."""

from __future__ import annotations

from collections.abc import Sequence

from ropewalk.backend.context import DecodeStatus
from ropewalk.backend.errors import BackendError, ContextFullError, DecodeError, StoppedError
from ropewalk.engine.sequence import ReadProgress, TokenSequence


def score(
    sequence: TokenSequence,
    tokens: Sequence[int],
    on_progress: ReadProgress,
    *,
    first: int = 1,
    reserve: int = 0,
) -> tuple[float, ...]:
    """The natural log-probability of each of `tokens[first:]`, given all of the text before it.

    Goes on from the longest prefix that is held and ends before `first`; afterwards the sequence holds all
    tokens. Logits are kept for one batch at a time.

    Args:
        sequence: to read the text in.
        tokens: the text.
        on_progress: told the tokens held and all tokens, at the beginning and after each batch.
        first: index of the first one that is wanted.
        reserve: tokens that the text is to have in the end; see `TokenSequence.read`.

    Raises:
        BackendError: there is none to score, or one is no token of the model.
        PromptTooLongError: they do not fit into the context; nothing has changed.
        StoppedError: it was stopped; what was read stays held.
    """
    if not 1 <= first < len(tokens):
        raise BackendError(
            f"a text of {len(tokens):,} tokens has nothing to score from token {first} on: begin at 1 or "
            "later, and before its end"
        )
    kept = sequence.prepare(tokens, first - 1, reserve)
    try:
        return _score_on(sequence, tokens, first, on_progress)
    except ContextFullError:
        raise
    except DecodeError:
        if kept == 0:
            raise
        sequence.roll_back_to(0)  # what is held cannot be gone on from (a copy under windows)
        return _score_on(sequence, tokens, first, on_progress)


def _score_on(
    sequence: TokenSequence, tokens: Sequence[int], first: int, on_progress: ReadProgress
) -> tuple[float, ...]:
    context = sequence.context
    on_progress(len(sequence.tokens), len(tokens))
    scored: list[float] = []
    while (at := len(sequence.tokens)) < len(tokens):
        if at < first - 1:
            batch = tokens[at : min(at + context.n_handed_over, first - 1)]
            status = sequence.append(batch)
        else:
            batch = tokens[at : at + min(context.n_outputs, context.n_handed_over)]
            status = sequence.append(batch, all_logits=True)
            if status is DecodeStatus.DONE:
                scored += context.log_probabilities(tokens[at + 1 : at + 1 + len(batch)]).tolist()
        if status is not DecodeStatus.DONE:
            raise StoppedError("scoring the text was stopped")
        on_progress(len(sequence.tokens), len(tokens))
    return tuple(scored)
