"""The passkey test in torch: the cells and prompts of `ropewalk passkey`, in batches.

One pass over a prompt and its answer shows whether greedy decoding would have given that answer: it would
where every token of the answer is the likeliest after those before it. What begins otherwise and names the
key later counts as a miss here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from finetuning.planned_model import reserve
from ropewalk.evaluation.passkey_prompt import PasskeyCell, build_prompt, make_cell

BATCH_TOKENS = 8192
ANSWER_TOKENS = 16
"""As `ropewalk passkey` reserves for an answer."""


@dataclass(frozen=True)
class AnsweredCell:
    """One cell and its outcome.

    Attributes:
        length: tokens asked for.
        depth: where the key lay.
        trial: number of the repetition.
        prompt_tokens: tokens as run.
        hit: whether greedy decoding gives the key.
    """

    length: int
    depth: float
    trial: int
    prompt_tokens: int
    hit: bool


@dataclass(frozen=True)
class Question:
    """A cell's tokens.

    Attributes:
        cell: what is asked.
        tokens: the prompt and its answer.
        answer: how many of the last ones are the answer, its full stop left out.
    """

    cell: PasskeyCell
    tokens: tuple[int, ...]
    answer: int


def questions(
    tokenizer: PreTrainedTokenizerBase,
    lengths: Sequence[int],
    depths: Sequence[float],
    trials: int,
    seed: int = 0,
) -> list[Question]:
    """The cells of `ropewalk passkey` with these lengths, depths, trials and seed."""
    made = []
    for length in lengths:
        for depth in depths:
            for trial in range(trials):
                cell = make_cell(length, depth, trial, seed)
                prompt = build_prompt(cell, lambda text: len(_tokens(tokenizer, text))).text
                asked, answered = _tokens(tokenizer, prompt), _tokens(tokenizer, f"{prompt} {cell.key}")
                made.append(Question(cell, tuple(answered), len(answered) - len(asked)))
    return made


def ask(
    model: PreTrainedModel, asked: Sequence[Question], forbidden_after: torch.Tensor
) -> list[AnsweredCell]:
    """Ask all questions, in batches of prompts that are equally long.

    Args:
        model: with or without a plan.
        asked: the questions.
        forbidden_after: True for each token that begins with a digit, shape [vocabulary]: a key must end.
    """
    groups: dict[tuple[int, int], list[Question]] = defaultdict(list)
    for question in asked:
        groups[len(question.tokens), question.answer].append(question)
    outcomes: dict[PasskeyCell, AnsweredCell] = {}
    for (length, answer), group in groups.items():
        reserve(model, length - answer + ANSWER_TOKENS)
        size = max(1, BATCH_TOKENS // length)
        for first in range(0, len(group), size):
            part = group[first : first + size]
            tokens = torch.tensor([question.tokens for question in part])
            with torch.no_grad():
                logits = model(tokens, use_cache=False, logits_to_keep=answer + 1).logits
            likeliest = logits.argmax(-1)
            right = (likeliest[:, :-1] == tokens[:, -answer:]).all(1) & ~forbidden_after[likeliest[:, -1]]
            for question, hit in zip(part, right.tolist(), strict=True):
                cell = question.cell
                outcomes[cell] = AnsweredCell(cell.length, cell.depth, cell.trial, length - answer, hit)
    reserve(model, 0)
    return [outcomes[question.cell] for question in asked]


def begins_with_digit(tokenizer: PreTrainedTokenizerBase, size: int) -> torch.Tensor:
    """For each of `size` tokens, whether its text begins with a digit."""
    pieces = tokenizer.convert_ids_to_tokens(list(range(min(size, len(tokenizer)))))
    flags = [bool(piece) and piece[0].isdigit() for piece in pieces]
    return torch.tensor(flags + [False] * (size - len(flags)))


def _tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer.encode(text, verbose=False))
