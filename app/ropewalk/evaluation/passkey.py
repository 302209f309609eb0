"""The passkey test: can the model repeat five digits it read at some depth of a long text?"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ropewalk.engine import Engine
from ropewalk.evaluation.passkey_prompt import PasskeyCell, PasskeyPrompt, build_prompt, is_hit, make_cell

ANSWER_TOKENS = 16
"""Tokens generated per cell: the key takes at most six in any tokenizer, the rest shows what a miss says."""


@dataclass(frozen=True)
class PasskeyResult:
    """What came of one cell.

    Attributes:
        length: tokens asked for.
        depth: where the key lay, as a share of the filler.
        trial: number of the repetition, from 0.
        key: the five digits hidden.
        answer: the generated text, greedy.
        hit: whether it gives exactly the key.
        prompt_tokens: tokens the prompt had.
        seconds: time from tokenized prompt to the end of the answer. What a cell's prompt has in common
            with the cell's before it is not computed again, so cells are not comparable by it.
    """

    length: int
    depth: float
    trial: int
    key: str
    answer: str
    hit: bool
    prompt_tokens: int
    seconds: float


@dataclass(frozen=True)
class PasskeyTask:
    """A cell with its prompt."""

    cell: PasskeyCell
    prompt: PasskeyPrompt


def plan_tasks(
    engine: Engine, lengths: Sequence[int], depths: Sequence[float], trials: int, seed: int = 0
) -> list[PasskeyTask]:
    """Build the prompts of every length, depth and trial, in the order in which they are best run.

    Args:
        engine: a loaded model, which counts the tokens.
        lengths: prompt lengths in tokens.
        depths: shares of the filler before the key, 0 to 1.
        trials: repetitions of each length and depth.
        seed: other seeds give other keys.

    Raises:
        PromptLengthError: a length is too short for the prompt.
    """
    cells = [
        make_cell(length, depth, trial, seed)
        for length in sorted(set(lengths))
        for depth in sorted(set(depths))
        for trial in range(trials)
    ]
    return [PasskeyTask(cell, build_prompt(cell, lambda text: len(engine.tokenize(text)))) for cell in cells]


def context_length(tasks: Sequence[PasskeyTask]) -> int:
    """The context length that running all tasks needs."""
    return max(task.prompt.tokens for task in tasks) + ANSWER_TOKENS


def run_task(
    engine: Engine, task: PasskeyTask, on_progress: Callable[[int, int], None] | None = None
) -> PasskeyResult:
    """Ask one cell's question, greedily.

    Args:
        engine: a loaded model whose context has at least `context_length([task])` tokens.
        task: what to ask.
        on_progress: told tokens read and in all.
    """
    tokens = engine.tokenize(task.prompt.text)
    start = time.perf_counter()
    engine.prefill(tokens, on_progress)
    answer = "".join(piece.text for piece in engine.generate(ANSWER_TOKENS))
    cell = task.cell
    return PasskeyResult(
        length=cell.length,
        depth=cell.depth,
        trial=cell.trial,
        key=cell.key,
        answer=answer,
        hit=is_hit(answer, cell.key),
        prompt_tokens=len(tokens),
        seconds=time.perf_counter() - start,
    )
