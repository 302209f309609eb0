"""Drafts through the whole engine: what is asked for, what is told, and the same answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ropewalk.engine import Engine, EngineError, EngineOptions, GenerationResult, Piece, SamplingOptions
from ropewalk.engine.speculation import MAX_DRAFT
from tiny_models import write_chain_model, write_tiny_model

CHAIN = list(range(100, 160))
OPTIONS = EngineOptions(n_ctx=512, threads=1, batch_size=32, ubatch_size=32)
GREEDY = SamplingOptions()
DRAWN = SamplingOptions(temperature=0.9, seed=5)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine.start() as engine:
        yield engine


@pytest.fixture
def quoting(engine: Engine, tmp_path: Path) -> Engine:
    """With a model that goes on with the next number of `CHAIN`, whatever was before."""
    engine.load(write_chain_model(tmp_path / "chain.gguf", CHAIN).path, OPTIONS)
    return engine


def answered(
    engine: Engine, prompt: list[int], count: int, draft: int | None, sampling: SamplingOptions = GREEDY
) -> tuple[GenerationResult, list[Piece]]:
    """The prompt read, and so many tokens of an answer."""
    engine.prefill(prompt)
    generation = engine.generate(count, sampling, stop_at_eog=False, draft=draft)
    pieces = list(generation)
    return generation.result, pieces


def test_a_quotation_is_drafted_without_being_asked_for(quoting: Engine) -> None:
    prompt = [1, *CHAIN, 7, *CHAIN[:8]]
    plain, expected = answered(quoting, prompt, 50, 0)
    drafted, pieces = answered(quoting, prompt, 50, None)

    assert list(drafted.token_ids) == CHAIN[8:58]
    assert (drafted.token_ids, drafted.text, pieces) == (plain.token_ids, plain.text, expected)
    assert (plain.drafted, plain.accepted) == (0, 0)
    assert drafted.drafted == drafted.accepted > 35
    assert [piece.tokens for piece in pieces] == list(range(1, 51))


def test_a_quotation_that_goes_on_otherwise_is_written_as_the_model_has_it(quoting: Engine) -> None:
    """The document has another token in the middle of what is quoted."""
    prompt = [1, *CHAIN[:33], 9, *CHAIN[34:], 7, *CHAIN[:12]]
    drafted, _ = answered(quoting, prompt, 40, None)
    assert list(drafted.token_ids) == CHAIN[12:52]
    assert 0 < drafted.accepted < drafted.drafted


def test_what_is_held_after_an_answer_with_drafts_is_the_text(quoting: Engine) -> None:
    prompt = [1, *CHAIN, 7, *CHAIN[:8]]
    drafted, _ = answered(quoting, prompt, 20, None)
    longer = [*prompt, *drafted.token_ids, 5]
    assert quoting.prefill(longer).cached_tokens == len(longer) - 2  # the last of the answer, and the 5


@pytest.mark.parametrize("draft", [0, 1, 4, MAX_DRAFT, 10 * MAX_DRAFT])
@pytest.mark.parametrize("sampling", [GREEDY, DRAWN])
def test_no_draft_is_longer_than_was_asked_for(
    engine: Engine, tmp_path: Path, draft: int, sampling: SamplingOptions
) -> None:
    engine.load(write_tiny_model(tmp_path / "model.gguf", seed=3).path, OPTIONS)
    part = [int(token) for token in range(40, 60)]
    plain, expected = answered(engine, part * 4, 120, 0, sampling)
    drafted, pieces = answered(engine, part * 4, 120, draft, sampling)
    assert (drafted.token_ids, pieces) == (plain.token_ids, expected)
    assert (drafted.drafted == 0) or draft > 0


def test_a_negative_draft_is_one_sentence(quoting: Engine) -> None:
    quoting.prefill([1, 100])
    with pytest.raises(EngineError, match=r"^-1 tokens cannot be drafted: use 0 for none, or up to 15$"):
        list(quoting.generate(5, draft=-1))
    assert list(answered(quoting, [1, 100], 5, None)[0].token_ids) == CHAIN[1:6]


def test_a_cancelled_quotation_stays_usable(quoting: Engine) -> None:
    prompt = [1, *CHAIN, 7, *CHAIN[:8]]
    quoting.prefill(prompt)
    generation = quoting.generate(50, stop_at_eog=False)
    for piece in generation:
        if piece.tokens == 4:
            quoting.cancel()
    result = generation.result
    assert list(result.token_ids) == CHAIN[8 : 8 + result.tokens]
    rest, _ = answered(quoting, [*prompt, *result.token_ids], 5, None)
    assert list(rest.token_ids) == CHAIN[8 + result.tokens :][:5] or result.tokens > 45
