"""What the tiny model reads: passkey prompts with several kinds of filler, repetitions, and natural text.

Every sequence follows from the seed and its number alone, so that a training that was interrupted goes on
with the texts it would have had.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sentencepiece import SentencePieceProcessor

from ropewalk.evaluation.passkey_prompt import FILLER, INTRODUCTION, NEEDLE, QUESTION, prompt_text
from tiny_model.vocabulary import BOS, EOS

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]

KEY_WEIGHT = 5.0
"""Of each digit that can be known, in the loss: they are few, and what the model is for."""

FILLER_WEIGHT = 0.1
"""Of the words that every prompt has in common: they are many, and soon known."""

SHARES = (("literature", 11), ("random", 9), ("repeated", 3), ("natural", 9))
"""Kinds of sequences, and how many of 32 are of each."""

_FILLER_SENTENCES = tuple(f"{sentence.strip()}." for sentence in FILLER.rstrip(".").split("."))


@dataclass(frozen=True)
class Batch:
    """Sequences of `length` tokens, each to be predicted from those before it.

    Attributes:
        inputs: tokens, shape [n, length].
        targets: the tokens that follow, shape [n, length].
        weights: of each target in the loss, shape [n, length]; 0 for padding and what cannot be known.
    """

    inputs: IntArray
    targets: IntArray
    weights: FloatArray


class TrainingTexts:
    """Makes batches.

    Args:
        tokenizer: the model's.
        novels: natural texts.
        length: tokens of a sequence: L, or longer for fine-tuning.
        seed: other seeds give other texts.
        shares: kinds of sequences and how many of a batch are of each, in proportion.
        edges: share of the prompts whose key lies before all filler, or after it, which is rare otherwise.
    """

    def __init__(
        self,
        tokenizer: SentencePieceProcessor,
        novels: Sequence[str],
        length: int,
        seed: int,
        *,
        shares: Sequence[tuple[str, int]] = SHARES,
        edges: float = 0.0,
    ) -> None:
        self._tokenizer, self._length, self._seed = tokenizer, length, seed
        kinds = [kind for kind, count in shares for _ in range(count)]
        self._kinds, self._edges = kinds, edges
        self._paragraphs = [line for novel in novels for line in novel.splitlines()]
        self._natural = np.array(
            [token for novel in novels for token in tokenizer.encode(novel)], dtype=np.int64
        )
        digits = [tokenizer.piece_to_id(str(digit)) for digit in range(10)]
        self._is_digit = np.isin(np.arange(tokenizer.vocab_size()), digits)
        self._per_filler = len(tokenizer.encode(f"{FILLER} {FILLER}")) - len(tokenizer.encode(FILLER))
        self._fixed = len(tokenizer.encode(prompt_text("12345", 0, 0) + " 12345.")) + 6

    def batch(self, step: int, size: int) -> Batch:
        """The batch of a step, `size` sequences."""
        tokens = np.full((size, self._length + 1), EOS, dtype=np.int64)
        weights = np.zeros((size, self._length + 1), dtype=np.float32)
        for row in range(size):
            generator = np.random.default_rng([self._seed, step, row])
            kind = self._kinds[(row * len(self._kinds)) // size]
            made, weighed = self._sequence(kind, generator)
            made, weighed = made[: self._length + 1], weighed[: self._length + 1]
            tokens[row, : len(made)], weights[row, : len(made)] = made, weighed
        return Batch(tokens[:, :-1], tokens[:, 1:], weights[:, 1:])

    def _sequence(self, kind: str, generator: np.random.Generator) -> tuple[IntArray, FloatArray]:
        if kind == "natural":
            start = int(generator.integers(len(self._natural) - self._length))
            tokens = np.concatenate([[BOS], self._natural[start : start + self._length]])
            return tokens, np.ones(len(tokens), dtype=np.float32)
        if kind == "repeated":
            return self._repeated(generator)
        key = str(generator.integers(10000, 100000))
        text = self._literature(key, generator) if kind == "literature" else self._random(key, generator)
        return self._weighed(text, key, FILLER_WEIGHT if kind == "literature" else 0.3)

    def _repeated(self, generator: np.random.Generator) -> tuple[IntArray, FloatArray]:
        """A row of random tokens again and again: the plainest text in which looking back pays."""
        period = int(generator.integers(8, max(9, self._length // 2)))
        block = generator.integers(259, self._tokenizer.vocab_size(), period)
        tokens = np.concatenate([[BOS], np.resize(block, self._length)])
        weights = np.ones(len(tokens), dtype=np.float32)
        weights[: period + 2] = 0
        return tokens, weights

    def _literature(self, key: str, generator: np.random.Generator) -> str:
        """The prompt of `ropewalk passkey`, half of them as long as fits."""
        most = max(0, (self._length - self._fixed) // self._per_filler)
        n = most if generator.random() < 0.5 else int(generator.integers(most + 1))
        before = self._place(n, generator)
        return prompt_text(key, before, n - before)

    def _random(self, key: str, generator: np.random.Generator) -> str:
        """The same around other texts, cut so that prompts end anywhere."""
        room = self._length - self._fixed
        n = room if generator.random() < 0.5 else int(generator.integers(room + 1))
        before = self._place(n, generator)
        made = self._other_filler(generator)
        parts = [INTRODUCTION, self._cut(made, before), NEEDLE.format(key=key)]
        parts += [self._cut(made[::-1], n - before), QUESTION]
        return "\n".join(part for part in parts if part)

    def _place(self, n: int, generator: np.random.Generator) -> int:
        """How much of `n` parts of filler stands before the key."""
        before = int(generator.integers(n + 1))
        if self._edges and generator.random() < self._edges:
            return n if generator.random() < 0.5 else 0
        return before

    def _other_filler(self, generator: np.random.Generator) -> list[str]:
        """Words enough for a sequence: the novels', the literature's sentences, or random."""
        words: list[str] = []
        choice = generator.integers(3)
        while len(words) < self._length:
            paragraph = self._paragraphs[int(generator.integers(len(self._paragraphs)))].split()
            if choice == 0:
                words += paragraph
            elif choice == 1:
                words += str(generator.choice(_FILLER_SENTENCES)).split()
            else:
                words += [paragraph[int(generator.integers(len(paragraph)))]] if paragraph else []
        return words

    def _cut(self, words: list[str], tokens: int) -> str:
        """The first words, together at most so many tokens."""
        taken: list[str] = []
        held = 0
        for word in words:
            held += len(self._tokenizer.encode(word))
            if held > tokens:
                break
            taken.append(word)
        return " ".join(taken)

    def _weighed(self, text: str, key: str, rest: float) -> tuple[IntArray, FloatArray]:
        """A prompt with its answer; the key's digits count where it is not seen for the first time.

        The last fifteen digits are taken for the key's: the novels have next to none.
        """
        tokens = np.array([BOS, *self._tokenizer.encode(f"{text} {key}."), EOS], dtype=np.int64)
        weights = np.full(len(tokens), rest, dtype=np.float32)
        digits = np.flatnonzero(self._is_digit[tokens])
        answer, needle = digits[-len(key) :], digits[-3 * len(key) : -len(key)]
        weights[needle[: len(key)]] = 0
        weights[needle[len(key) :]] = KEY_WEIGHT / 2
        weights[answer] = KEY_WEIGHT
        return tokens, weights
