"""Passkey prompts as tasks: the same on every machine, token for token, and what they share."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from fake_engine import FakeEngine
from ropewalk.engine import Engine, EngineOptions
from ropewalk.evaluation.passkey import ANSWER_TOKENS, passkey_tasks
from ropewalk.evaluation.passkey_prompt import FILLER, MissingDigitsError, PromptLengthError
from ropewalk.evaluation.retrieval import RetrievalTask
from ropewalk.evaluation.retrieval_order import common_tokens, work_of
from upstream_archive import upstream_folder

LENGTHS, DEPTHS, TRIALS = (700, 400), (0.0, 0.3, 0.9, 1.0), 2
VOCABULARIES = ("llama-spm", "llama-bpe", "gpt-2", "qwen2", "falcon")
"""Of llama.cpp: sentencepiece, and byte pairs that cut digits and line breaks in different ways."""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine.start() as started:
        yield started


def vocabulary(name: str) -> Path:
    return upstream_folder() / "models" / f"ggml-vocab-{name}.gguf"


def load_vocabulary(engine: Engine, path: Path) -> None:
    engine.load(path, EngineOptions(n_ctx=0, vocabulary_only=True))


@pytest.mark.parametrize("name", VOCABULARIES)
def test_tasks_of_many_tokenizers(engine: Engine, name: str) -> None:
    load_vocabulary(engine, vocabulary(name))
    check_tasks(engine, LENGTHS)
    check_bound(engine, 2000)


def test_tasks_of_a_tokenizer_of_few_pieces(engine: Engine, tiny_llama: Path) -> None:
    load_vocabulary(engine, tiny_llama)
    check_tasks(engine, (900, 700))


@pytest.mark.real_model
def test_tasks_of_the_real_model(engine: Engine, real_model: Path) -> None:
    load_vocabulary(engine, real_model)
    check_tasks(engine, LENGTHS)
    check_bound(engine, 4000)
    assert digest(passkey_tasks(engine, LENGTHS, DEPTHS, TRIALS)) == "338d2bccf03cb009"


def check_tasks(engine: Engine, lengths: Sequence[int]) -> None:
    """Each task is what it says, and what tasks share is one text."""
    filler = len(engine.tokenize(FILLER, add_special=False)) + 2
    tasks = passkey_tasks(engine, lengths, DEPTHS, TRIALS)
    cells = [(task.length, task.depth, task.trial) for task in tasks]
    assert cells == [(n, d, t) for n in sorted(lengths) for d in DEPTHS for t in range(TRIALS)]
    by_cell = dict(zip(cells, tasks, strict=True))
    for task in tasks:
        (key,) = task.expected
        assert task.length - filler < len(task.tokens) <= task.length
        assert task.distance == len(task.tokens) - task.shared
        assert key not in engine.detokenize(task.tokens[: task.shared])
        needle = engine.detokenize(task.tokens[task.shared :])
        assert "pass key is " + key in needle
        # from the needle's line break, or a token that it is merged with, on: nothing of the filler
        assert needle.lstrip(". \n").startswith(("The pass key is", "pass key is")), needle[:40]
        other = by_cell[task.length, task.depth, 1 - task.trial]
        assert task.shared <= common_tokens(task.tokens, other.tokens)
        assert task.answer_tokens == ANSWER_TOKENS
        assert (task.test, task.rule) == ("passkey", "first-number")
    stems = [task.tokens[: task.shared] for task in sorted(tasks, key=lambda task: task.shared)]
    assert all(longer[: len(stem)] == stem for stem, longer in itertools.pairwise(stems))


def check_bound(engine: Engine, length: int) -> None:
    """In short prompts, where the little that is computed twice is the most."""
    work = work_of(passkey_tasks(engine, [length], [0.1, 0.3, 0.5, 0.7, 0.9], 3))
    assert work.bound / work.planned >= 0.9
    assert work.naive / work.planned > 0.9 * 15 / (0.9 + 3 * 2.5)


def digest(tasks: list[RetrievalTask]) -> str:
    content = "\n".join(
        f"{task.length} {task.depth:.6f} {task.trial} {task.expected[0]} {' '.join(map(str, task.tokens))}"
        for task in tasks
    )
    return hashlib.sha256(content.encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("name", "seed", "expected"),
    [
        ("llama-spm", 0, "56b223be7cfe936a"),
        ("qwen2", 0, "ce2ddd74590f219b"),
        ("qwen2", 7, "d72bbfa644a09c12"),
    ],
)
def test_the_same_seed_gives_the_same_prompts_everywhere(
    engine: Engine, name: str, seed: int, expected: str
) -> None:
    """Written down once, with the code that made the prompts before they were tasks."""
    load_vocabulary(engine, vocabulary(name))
    assert digest(passkey_tasks(engine, LENGTHS, DEPTHS, TRIALS, seed)) == expected


def test_a_model_that_cannot_read_digits_is_refused() -> None:
    with FakeEngine() as engine:
        engine.load(Path("model.gguf"), EngineOptions(n_ctx=64))
        plain = engine.detokenize
        engine.detokenize = lambda tokens: plain(tokens).replace("7", "?").replace("3", "?")  # type: ignore[method-assign]
        with pytest.raises(MissingDigitsError, match=r"model\.gguf has no token for 3, 7, so"):
            passkey_tasks(engine, [400], [0.5], 1)


def test_one_length_that_is_too_short_is_named() -> None:
    with FakeEngine() as engine:
        engine.load(Path("model.gguf"), EngineOptions(n_ctx=64))
        with pytest.raises(PromptLengthError, match="cannot have 20 tokens; the least here is"):
            passkey_tasks(engine, [400, 20], [0.5], 1)


def test_progress_counts_the_prompts() -> None:
    told: list[tuple[int, int]] = []
    with FakeEngine() as engine:
        engine.load(Path("model.gguf"), EngineOptions(n_ctx=64))
        passkey_tasks(
            engine, [400], [0.1, 0.9], 2, on_progress=lambda done, total: told.append((done, total))
        )
    assert told == [(0, 4), (1, 4), (2, 4), (3, 4)]
