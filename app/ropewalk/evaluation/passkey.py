"""The passkey test: can the model repeat five digits it read at some depth of a long text?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ropewalk.engine import Engine
from ropewalk.evaluation.passkey_prompt import MissingDigitsError, build_prompt, haystack_text, make_cell
from ropewalk.evaluation.retrieval import RetrievalTask
from ropewalk.evaluation.retrieval_order import common_tokens

TEST = "passkey"

ANSWER_TOKENS = 16
"""Tokens generated per cell: the key takes at most six in any tokenizer, the rest shows what a miss says."""

_DIGITS = "0123456789"


def passkey_tasks(
    engine: Engine,
    lengths: Sequence[int],
    depths: Sequence[float],
    trials: int,
    seed: int = 0,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[RetrievalTask]:
    """The prompts of every length, depth and trial; the same arguments give the same ones on every machine.

    Args:
        engine: a loaded model, which counts the tokens.
        lengths: prompt lengths in tokens.
        depths: shares of the filler before the key, 0 to 1.
        trials: repetitions of each length and depth.
        seed: other seeds give other keys.
        on_progress: told the prompts made and in all.

    Returns:
        Tasks by length, depth and trial, rising.

    Raises:
        PromptLengthError: a length is too short for the prompt.
        MissingDigitsError: the model's vocabulary lacks digits.
    """
    require_digits(engine)
    cells = [
        make_cell(length, depth, trial, seed)
        for length in sorted(set(lengths))
        for depth in sorted(set(depths))
        for trial in range(trials)
    ]
    vocabulary: dict[int, int] = {}  # a token is one object wherever it stands, in millions of places
    haystack: tuple[int, ...] = ()
    tasks = []
    # the longest first, whose haystack serves all others
    for done, cell in enumerate(reversed(cells)):
        if on_progress is not None:
            on_progress(done, len(cells))
        tokenized: dict[str, list[int]] = {}

        def count(text: str, tokenized: dict[str, list[int]] = tokenized) -> int:
            tokenized[text] = engine.tokenize(text)
            return len(tokenized[text])

        prompt = build_prompt(cell, count)
        tokens = tuple(vocabulary.setdefault(token, token) for token in tokenized[prompt.text])
        if len(haystack) < len(tokens):
            haystack = tuple(engine.tokenize(haystack_text(prompt.filler_before + prompt.filler_after + 1)))
        shared = common_tokens(haystack, tokens)
        tasks.append(
            RetrievalTask(
                test=TEST,
                length=cell.length,
                depth=cell.depth,
                trial=cell.trial,
                tokens=tokens,
                shared=shared,
                distance=len(tokens) - shared,
                expected=(cell.key,),
                rule="first-number",
                answer_tokens=ANSWER_TOKENS,
            )
        )
    return tasks[::-1]


def require_digits(engine: Engine) -> None:
    """Refuse a model that reads two keys as the same text.

    Raises:
        MissingDigitsError: so.
    """
    missing = [
        digit
        for digit in _DIGITS
        if engine.detokenize(engine.tokenize(digit, add_special=False)).strip() != digit
    ]
    if missing:
        path = engine.model.path if engine.model is not None else "the model"
        raise MissingDigitsError(
            f"{path} has no token for {', '.join(missing)}, so one number cannot be told from another; "
            "test a model that has all ten digits, or hide words: `ropewalk needle --value-kind words`."
        )
