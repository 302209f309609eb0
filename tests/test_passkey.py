"""The passkey prompt, letter by letter, and its length in tokens."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_engine import FakeEngine
from ropewalk.engine import EngineOptions
from ropewalk.evaluation.passkey_prompt import (
    PromptLengthError,
    build_prompt,
    make_cell,
    prompt_text,
)
from ropewalk.evaluation.retrieval import RetrievalTask, is_hit

# Written out from the paper's text, not from the code.
EXPECTED = (
    "There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. "
    "I will quiz you about the important information there.\n"
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. "
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n"
    "The pass key is 12345. Remember it. 12345 is the pass key.\n"
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n"
    "What is the pass key? The pass key is"
)


def count_words(text: str) -> int:
    """A tokenizer of its own: words and punctuation marks, and one start token."""
    return 1 + len(re.findall(r"\w+|[^\w\s]", text))


ONE_REPETITION = 24  # words and full stops of the filler, by that tokenizer


def test_the_prompt_is_the_papers() -> None:
    assert prompt_text("12345", 2, 1) == EXPECTED


def test_without_filler_before_or_after_there_is_no_empty_line() -> None:
    assert "\n\n" not in prompt_text("12345", 0, 0)
    assert prompt_text("12345", 0, 0).count("\n") == 2


@given(st.integers(80, 30000), st.floats(0, 1), st.integers(0, 5))
def test_lengths_are_met_to_within_one_filler(length: int, depth: float, trial: int) -> None:
    prompt = build_prompt(make_cell(length, depth, trial), count_words)
    assert prompt.tokens == count_words(prompt.text)
    assert length - ONE_REPETITION < prompt.tokens <= length
    n = prompt.filler_before + prompt.filler_after
    assert prompt.text.count("The grass is green.") == n
    assert abs(prompt.filler_before - depth * n) <= 0.5


def test_the_key_lies_where_asked() -> None:
    for depth in (0.0, 0.1, 0.5, 0.9, 1.0):
        cell = make_cell(5000, depth, 0)
        text = build_prompt(cell, count_words).text
        assert text.index(cell.key) / len(text) == pytest.approx(depth, abs=0.02)


def test_a_tokenizer_that_merges_across_sentences_is_met_too() -> None:
    """Counts that are not linear in the number of repetitions: every seventh filler costs less."""

    def count(text: str) -> int:
        return count_words(text) - 9 * (text.count("The grass is green.") // 7)

    for length in (100, 1000, 5000, 12000):
        prompt = build_prompt(make_cell(length, 0.3, 0), count)
        assert length - ONE_REPETITION < prompt.tokens <= length


def test_a_long_prompt_is_tokenized_a_few_times_only() -> None:
    with FakeEngine() as engine:
        engine.load(Path("model.gguf"), EngineOptions(n_ctx=64))
        prompt = build_prompt(make_cell(100_000, 0.5, 0), lambda text: len(engine.tokenize(text)))
    assert engine.tokenized_characters < 4 * len(prompt.text)


def test_too_short_a_length_is_refused_with_the_least() -> None:
    least = count_words(prompt_text("12345", 0, 0))
    with pytest.raises(PromptLengthError, match=f"{least}"):
        build_prompt(make_cell(least - 1, 0.5, 0), count_words)
    assert build_prompt(make_cell(least, 0.5, 0), count_words).tokens == least


def test_keys_are_the_same_everywhere() -> None:
    """Keys are part of what a result means: these were written down once."""
    keys = [make_cell(4000, 0.5, 0).key, make_cell(4000, 0.5, 1).key, make_cell(4000, 0.5, 0, seed=1).key]
    assert keys == ["60174", "18429", "29046"]


def test_keys_are_five_digits_and_differ() -> None:
    keys = {make_cell(length, 0.5, trial).key for length in range(1000, 1100) for trial in range(10)}
    assert all(re.fullmatch(r"[1-9][0-9]{4}", key) for key in keys)
    assert len(keys) > 980


@pytest.mark.parametrize(
    ("answer", "hit"),
    [
        (" 12345. Remember it.", True),
        ("12345", True),
        (" the number 7, or rather 12345", True),
        ("**12345**", True),
        (" 123456", False),
        (" 012345", False),
        (" 1234", False),
        (" 54321. No, 12345", False),
        (" 1 2 3 4 5", False),
        (" 12,345", False),
        (" 12346", False),
        (" ١٢٣٤٥", False),
        ("", False),
    ],
)
def test_a_hit_is_the_exact_key(answer: str, hit: bool) -> None:
    task = RetrievalTask(
        test="passkey",
        length=400,
        depth=0.5,
        trial=0,
        tokens=(1, 2, 3),
        shared=1,
        distance=2,
        expected=("12345",),
        rule="first-number",
        answer_tokens=16,
    )
    assert is_hit(task, answer) is hit
