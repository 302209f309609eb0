"""Long texts to learn from under a plan: a natural one, and passkey prompts up to the target length."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from ropewalk.evaluation.passkey_prompt import FILLER, INTRODUCTION, NEEDLE, QUESTION, prompt_text
from tiny_model.texts import FILLER_WEIGHT, KEY_WEIGHT, Batch

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]


class ShortTextError(ValueError):
    """A text that is shorter than one sequence; the message is one sentence."""


class LongTexts:
    """Makes batches: even rows are passkey prompts, odd ones stretches of the natural text.

    Half of the prompts are as long as fits, the others of any length; half have the literature's filler, the
    others the natural text's. Every row follows from the seed, the step and its number alone.

    Args:
        tokenizer: of transformers.
        text: natural text, at least `length` tokens of it.
        length: tokens of a sequence.
        seed: other seeds give other batches.

    Raises:
        ShortTextError: there is not enough text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, text: str, length: int, seed: int) -> None:
        self._tokenizer, self._length, self._seed = tokenizer, length, seed
        self._natural = np.array(self._encode(text), dtype=np.int64)
        if len(self._natural) <= length:
            raise ShortTextError(
                f"The text has {len(self._natural):,} tokens, and a sequence takes {length:,}: give a longer "
                "text or a shorter target length."
            )
        self._words = text.split()
        bos = tokenizer.bos_token_id
        self._start = [] if bos is None else [bos]
        eos = tokenizer.eos_token_id
        self._padding = 0 if eos is None else eos
        self._per_filler = len(self._encode(" ".join([FILLER] * 9))) - len(self._encode(FILLER))
        self._fixed = len(self._encode(_answered(prompt_text("12345", 0, 0), "12345"))) + 4
        if self._fixed >= length:
            raise ShortTextError(
                f"A passkey prompt takes {self._fixed:,} tokens, and a sequence has {length:,}: give a "
                "longer target length."
            )

    def batch(self, step: int, size: int) -> Batch:
        """The batch of a step."""
        tokens = np.full((size, self._length + 1), self._padding, dtype=np.int64)
        weights = np.zeros((size, self._length + 1), dtype=np.float32)
        for row in range(size):
            generator = np.random.default_rng([self._seed, step, row])
            made, weighed = self._stretch(generator) if row % 2 else self._prompt(generator)
            made, weighed = made[: self._length + 1], weighed[: self._length + 1]
            tokens[row, : len(made)], weights[row, : len(made)] = made, weighed
        return Batch(tokens[:, :-1], tokens[:, 1:], weights[:, 1:])

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False, verbose=False))

    def _stretch(self, generator: np.random.Generator) -> tuple[IntArray, FloatArray]:
        first = int(generator.integers(len(self._natural) - self._length))
        tokens = np.array([*self._start, *self._natural[first : first + self._length]], dtype=np.int64)
        return tokens, np.ones(len(tokens), dtype=np.float32)

    def _prompt(self, generator: np.random.Generator) -> tuple[IntArray, FloatArray]:
        key = str(generator.integers(10000, 100000))
        room = self._length - self._fixed
        room = room if generator.random() < 0.5 else int(generator.integers(room + 1))
        if generator.random() < 0.5:
            n = room * 8 // self._per_filler
            before = int(generator.integers(n + 1))
            text = prompt_text(key, before, n - before)
        else:
            before = int(generator.integers(room + 1))
            parts = [INTRODUCTION, self._filler(before, generator), NEEDLE.format(key=key)]
            parts += [self._filler(room - before, generator), QUESTION]
            text = "\n".join(part for part in parts if part)
        return self._weighed(text, key)

    def _filler(self, tokens: int, generator: np.random.Generator) -> str:
        """Words of the natural text, at most so many tokens together."""
        first = int(generator.integers(max(1, len(self._words) - tokens)))
        words = self._words[first : first + tokens]
        while words and (excess := len(self._encode(" ".join(words))) - tokens) > 0:
            del words[-max(1, excess // 4) :]
        return " ".join(words)

    def _weighed(self, text: str, key: str) -> tuple[IntArray, FloatArray]:
        """The prompt with its answer: what follows the prompt, up to the full stop, counts most."""
        asked, answered = self._encode(text), self._encode(_answered(text, key))
        common = next(
            (i for i, (a, b) in enumerate(zip(asked, answered, strict=False)) if a != b), len(asked)
        )
        weights = np.full(len(answered), FILLER_WEIGHT, dtype=np.float32)
        weights[common:-1] = KEY_WEIGHT
        tokens = np.array([*self._start, *answered], dtype=np.int64)
        return tokens, np.concatenate([np.zeros(len(self._start), dtype=np.float32), weights])


def _answered(text: str, key: str) -> str:
    return f"{text} {key}."
