"""Computing ahead changes nothing: answers, pieces, what is held afterwards, and the logits.

Reference everywhere: the same sequence without drafts.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drafted_answers import (
    Drafts,
    answer,
    first_difference,
    opened,
    partly_right,
    read,
    rows_of,
    tiny_params,
    wrong,
)
from mode_plans import PLANS, random_tokens, write_model
from ropewalk.backend.context import Context, DecodeStatus
from ropewalk.backend.errors import BackendError, ContextFullError
from ropewalk.engine.results import Piece
from ropewalk.engine.sampling import SamplingOptions
from ropewalk.engine.sequence import TokenSequence
from ropewalk.engine.speculation import MAX_DRAFT, SpeculativeText
from ropewalk_plan import ContextPlan, GgufHeader, make_plan, rope_spec_from_gguf
from tiny_models import write_chain_model
from tiny_other_memories import write_tiny_mamba

pytestmark = pytest.mark.usefixtures("patched_library")

LARGEST_DIFFERENCE = {"f32": 3e-5, "f16": 1e-2, "q8_0": 3e-2}
"""Of logits of a few units: a batch of another shape sums in another order, and the last digit of a key or a
value may be rounded to its neighbour in the cache's type. Three times what was seen."""

CLOSE_LOGITS = 1e-3
DRAWN = SamplingOptions(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=11)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("speculation") / "model.gguf", "llama").path


@pytest.fixture(scope="module", params=[None, *PLANS])
def sequence(request: pytest.FixtureRequest, model: Path) -> Iterator[TokenSequence]:
    plan = None if request.param is None else PLANS[request.param]
    with opened(model, tiny_params(256), plan) as sequence:
        yield sequence


@pytest.fixture(scope="module")
def plain(model: Path) -> Iterator[TokenSequence]:
    with opened(model, tiny_params(256)) as sequence:
        yield sequence


def assert_same_answer(
    sequence: TokenSequence, prompt: list[int], count: int, drafts: Drafts, sampling: SamplingOptions
) -> None:
    """With what is drafted and without it; a greedy answer may part where two logits are as good as equal."""
    sequence.drop()
    read(sequence, prompt)
    pieces: list[Piece] = []
    with pytest.MonkeyPatch.context() as monkeypatch:
        drafts.install(monkeypatch)
        drafted = answer(sequence, count, None, sampling=sampling, on_piece=pieces.append)
    held = list(sequence.tokens)
    sequence.drop()
    read(sequence, prompt)
    expected_pieces: list[Piece] = []
    expected = answer(sequence, count, 0, sampling=sampling, on_piece=expected_pieces.append)

    assert drafted.drafted == sum(made for _, made in drafts.made)
    assert 0 <= drafted.accepted <= drafted.drafted
    assert held == [*prompt, *drafted.token_ids[:-1]]
    parted = first_difference(drafted.token_ids, expected.token_ids)
    if parted is None:
        assert pieces == expected_pieces
        assert (drafted.text, drafted.reason) == (expected.text, expected.reason)
    else:
        assert sampling.temperature == 0
        sequence.drop()
        row = rows_of(sequence, [*prompt, *expected.token_ids], len(prompt))[parted]
        best = np.sort(row)[-2:]
        assert best[1] - best[0] < CLOSE_LOGITS


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(3, 120), st.integers(0, 2**16), st.integers(1, 120))
def test_answers_are_those_without_drafts(
    sequence: TokenSequence, length: int, seed: int, count: int
) -> None:
    """Under every plan, across every step of a schedule."""
    prompt = random_tokens(length, seed)
    sequence.drop()
    read(sequence, prompt)
    text = [*prompt, *answer(sequence, count, 0).token_ids]
    assert_same_answer(sequence, prompt, count, Drafts(partly_right(text, seed)), SamplingOptions())


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 120), st.integers(0, 2**16))
def test_draws_come_in_the_same_order(plain: TokenSequence, length: int, seed: int) -> None:
    """One for each token of the answer, and none for a guess: at a temperature, too."""
    prompt = random_tokens(length, seed)
    plain.drop()
    read(plain, prompt)
    text = [*prompt, *answer(plain, 80, 0, sampling=DRAWN).token_ids]
    assert_same_answer(plain, prompt, 80, Drafts(partly_right(text, seed)), DRAWN)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_repeated_texts_are_answered_the_same(plain: TokenSequence, data: st.DataObject) -> None:
    """As drafts are really made, of any length."""
    part = random_tokens(data.draw(st.integers(2, 40)), data.draw(st.integers(0, 99)))
    prompt = (part * 8)[: data.draw(st.integers(2, 160))]
    most = data.draw(st.integers(0, MAX_DRAFT + 5))
    results = []
    for draft in (most, 0):
        plain.drop()
        read(plain, prompt)
        results.append(answer(plain, 80, draft))
    parted = first_difference(results[0].token_ids, results[1].token_ids)
    if parted is not None:
        plain.drop()
        best = np.sort(rows_of(plain, [*prompt, *results[1].token_ids], len(prompt))[parted])[-2:]
        assert best[1] - best[0] < CLOSE_LOGITS


@pytest.mark.parametrize("count", [1, 2, 7, MAX_DRAFT])
def test_a_wrong_draft_leaves_no_trace(
    sequence: TokenSequence, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Logits after drafts that were all wrong, across every step of a schedule, are those of none."""
    assert_no_trace(sequence, monkeypatch, count, LARGEST_DIFFERENCE["f32"])


@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
def test_a_wrong_draft_leaves_no_trace_in_smaller_types(
    model: Path, monkeypatch: pytest.MonkeyPatch, kv_type: str
) -> None:
    with opened(model, tiny_params(256, kv_type), PLANS["schedule"]) as sequence:
        assert_no_trace(sequence, monkeypatch, 5, LARGEST_DIFFERENCE[kv_type])


def assert_no_trace(
    sequence: TokenSequence, monkeypatch: pytest.MonkeyPatch, count: int, largest_difference: float
) -> None:
    """Of drafts of so many tokens, all wrong."""
    prompt = random_tokens(50, count)
    sequence.drop()
    read(sequence, prompt)
    text = [*prompt, *answer(sequence, 120, 0).token_ids]
    sequence.drop()
    expected = rows_of(sequence, text, len(prompt))
    drafts = Drafts(wrong(text, count))
    drafts.install(monkeypatch)

    sequence.drop()
    read(sequence, prompt)
    ahead = SpeculativeText(sequence)
    for i, token in enumerate(text[len(prompt) :]):
        found = sequence.context.logits()[ahead.row]
        assert np.abs(found - expected[i]).max() < largest_difference
        assert ahead.append(token, wanted=1000) is DecodeStatus.DONE
    ahead.close()

    assert ahead.drafted > 0
    assert ahead.accepted == 0
    assert sequence.tokens == text
    assert sequence.context.length_of(0) == len(text)


@pytest.mark.parametrize("name", ["schedule", "all"])
def test_a_draft_puts_no_later_step_in_force(model: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Its keys would be turned for good: none reaches beyond the step of the text before it."""
    limits = [step.up_to_length for step in PLANS[name].schedule]
    with opened(model, tiny_params(256), PLANS[name]) as sequence:
        read(sequence, random_tokens(40, 1))
        drafts = Drafts(lambda _text, most: [5] * most)
        drafts.install(monkeypatch)
        answer(sequence, 180, None)
    for before, count in drafts.made:
        step = next(limit for limit in limits if limit >= before)
        assert before + count <= step
    assert {count for _, count in drafts.made} >= {1, MAX_DRAFT}
    crossed = [limit for limit in limits[:-1] if 40 < limit < 220]
    assert all(any(before == limit + 1 for before, _ in drafts.made) for limit in crossed)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("windows", {"windows": "32", "sinks": "4"}),
        ("windows", {"windows": "232/0", "sinks": "4"}),
        ("dynamic-ntk+windows", {"windows": "32"}),
    ],
)
@pytest.mark.parametrize("n_ubatch", [16, 20])
def test_windows_forget_guesses_as_well(
    model: Path, monkeypatch: pytest.MonkeyPatch, method: str, options: dict[str, str], n_ubatch: int
) -> None:
    """Caches of 256 cells are full long before the end; what a draft took the place of nobody needs."""
    prompt = random_tokens(300, 3)
    removals = recorded_removals(monkeypatch)
    with opened(model, tiny_params(1024, n_ubatch=n_ubatch), made(model, method, **options)) as sequence:
        read(sequence, prompt)
        text = [*prompt, *answer(sequence, 300, 0).token_ids]
        for seed in range(3):
            assert_same_answer(sequence, prompt, 300, Drafts(partly_right(text, seed)), SamplingOptions())
    assert len(removals) > 50
    assert all(removals)


def made(model: Path, method: str, **options: str) -> ContextPlan:
    return make_plan(rope_spec_from_gguf(GgufHeader.read(model)), method, 256, options=options)


def recorded_removals(monkeypatch: pytest.MonkeyPatch, *, refused: bool = False) -> list[bool]:
    """Whether the memory did what each removal asked for."""
    removals: list[bool] = []
    remove_from = Context.remove_from

    def recording(context: Context, position: int, *, sequence: int = 0) -> bool:
        removals.append(not refused and remove_from(context, position, sequence=sequence))
        return removals[-1]

    monkeypatch.setattr(Context, "remove_from", recording)
    return removals


def test_a_memory_that_forgets_nothing_is_read_again_once(
    plain: TokenSequence, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then nothing is drafted any more, and the answer is right all the same."""
    prompt = random_tokens(70, 5)
    plain.drop()
    read(plain, prompt)
    expected = answer(plain, 60, 0).token_ids
    plain.drop()
    read(plain, prompt)
    drafts = Drafts(wrong([*prompt, *expected], 5))
    drafts.install(monkeypatch)
    removals = recorded_removals(monkeypatch, refused=True)

    result = answer(plain, 60, None)

    assert result.token_ids == expected
    assert (result.drafted, result.accepted, removals) == (5, 0, [False])
    assert plain.tokens == [*prompt, *expected[:-1]]


def test_what_cannot_be_decoded_together_is_decoded_alone(
    plain: TokenSequence, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other texts may have taken the room that a draft needs."""
    prompt = random_tokens(70, 6)
    plain.drop()
    read(plain, prompt)
    expected = answer(plain, 30, 0).token_ids
    plain.drop()
    read(plain, prompt)
    drafts = Drafts(partly_right([*prompt, *expected], 7))
    drafts.install(monkeypatch)
    decode = Context.decode

    def crowded(context: Context, tokens: list[int], **options: bool) -> DecodeStatus:
        if len(tokens) > 4:
            raise ContextFullError("the context is full")
        return decode(context, tokens, **options)

    monkeypatch.setattr(Context, "decode", crowded)
    assert answer(plain, 30, None).token_ids == expected
    assert plain.tokens == [*prompt, *expected[:-1]]
    assert max(count for _, count in drafts.made) > 3
    assert drafts.made[-1][1] > 3  # the last that was tried


def test_nothing_is_drafted_where_nothing_can_be_forgotten(tmp_path: Path, model: Path) -> None:
    part = random_tokens(10, 8)
    stream = made(model, "streaming", window="64", sinks="4")
    for path, plan in ((write_tiny_mamba(tmp_path / "mamba.gguf"), None), (model, stream)):
        with opened(path, tiny_params(), plan) as sequence, pytest.MonkeyPatch.context() as monkeypatch:
            drafts = Drafts(lambda _text, most: [5] * most)
            drafts.install(monkeypatch)
            read(sequence, part * 5)
            assert answer(sequence, 40, None).tokens == 40
            assert drafts.made == []


def test_no_draft_is_longer_than_a_micro_batch(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(model, tiny_params(n_ubatch=4)) as sequence:
        drafts = Drafts(lambda _text, most: [5] * most)
        drafts.install(monkeypatch)
        read(sequence, random_tokens(10, 9))
        answer(sequence, 20, None)
    assert {count for _, count in drafts.made} == {3, 2, 1}  # towards the end, only what may be needed


@pytest.mark.parametrize("draft", [0, 3, None])
def test_a_full_context_ends_an_answer_at_the_same_token(
    model: Path, monkeypatch: pytest.MonkeyPatch, draft: int | None
) -> None:
    prompt = random_tokens(50, 10)
    with opened(model, tiny_params(n_ctx=80)) as sequence:
        read(sequence, prompt)
        expected = answer(sequence, 100, 0)
        assert (expected.tokens, expected.reason) == (31, "length")
        Drafts(partly_right([*prompt, *expected.token_ids, *prompt], 11)).install(monkeypatch)
        sequence.drop()
        read(sequence, prompt)
        result = answer(sequence, 100, draft)
        assert (result.token_ids, result.reason) == (expected.token_ids, "length")
        assert len(sequence.tokens) == 80


def test_an_end_token_ends_an_answer_in_the_middle_of_a_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = 2
    chain = [*range(100, 120), end, *range(130, 150)]
    path = write_chain_model(tmp_path / "chain.gguf", chain).path
    Drafts(lambda text, most: chain[chain.index(text[-1]) + 1 :][:most]).install(monkeypatch)
    with opened(path, tiny_params()) as sequence:
        read(sequence, [1, 100])
        result = answer(sequence, 60, None, stop_at_eog=True)
        assert (result.reason, result.token_ids) == ("stop", tuple(range(101, 120)))
        assert result.accepted == 17  # the first token of each batch was no guess
        assert sequence.tokens == [1, *range(100, 120)]
        assert sequence.context.length_of(0) == 21
        read(sequence, [1, 100])
        assert answer(sequence, 30, None).token_ids == tuple(chain[1:31])


@pytest.mark.parametrize("after", [0, 1, 9, 17, 25])
def test_an_answer_is_cancelled_in_the_middle_of_a_draft(
    model: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """What it said is the beginning of the answer, what is held belongs to it, and can be gone on from."""
    prompt = random_tokens(40, 12)
    seen = itertools.count()
    stopped = False

    stopped_at: list[int] = []

    def count_piece(piece: Piece) -> None:
        nonlocal stopped
        stopped = next(seen) >= after
        stopped_at.extend([piece.tokens] if stopped else [])

    with opened(model, tiny_params(), should_stop=lambda: stopped) as sequence:
        read(sequence, prompt)
        expected = answer(sequence, 80, 0)
        text = [*prompt, *expected.token_ids]
        Drafts(lambda so_far, most: text[len(so_far) :][:most]).install(monkeypatch)
        read(sequence, prompt)
        cancelled = answer(sequence, 80, None, on_piece=count_piece)
        assert (cancelled.reason, cancelled.tokens) == ("cancelled", stopped_at[0])
        assert cancelled.token_ids == expected.token_ids[: cancelled.tokens]
        assert len(prompt) <= len(sequence.tokens) <= len(prompt) + cancelled.tokens
        assert sequence.tokens == text[: len(sequence.tokens)]
        assert sequence.context.length_of(0) == len(sequence.tokens)
        stopped = False
        read(sequence, text[: len(prompt) + cancelled.tokens])
        rest = answer(sequence, 80 - cancelled.tokens, None)
        assert [*cancelled.token_ids, *rest.token_ids] == list(expected.token_ids)


def test_a_failing_listener_leaves_only_the_answer(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = random_tokens(40, 13)
    with opened(model, tiny_params()) as sequence:
        read(sequence, prompt)
        text = [*prompt, *answer(sequence, 40, 0).token_ids]
        Drafts(lambda so_far, most: text[len(so_far) :][:most]).install(monkeypatch)
        read(sequence, prompt)

        def fail(piece: Piece) -> None:
            if piece.tokens > 5:
                raise OSError("nobody listens")

        with pytest.raises(OSError, match="nobody listens"):
            answer(sequence, 40, None, on_piece=fail)
        assert sequence.tokens == text[: len(sequence.tokens)]
        assert sequence.context.length_of(0) == len(sequence.tokens) <= len(prompt) + 6


def test_a_sequence_beside_another_is_drafted_for_too(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the same cells: what is forgotten of one is not forgotten of the other."""
    document, question = random_tokens(60, 14), random_tokens(8, 15)
    params = dataclasses.replace(tiny_params(), n_sequences=2)
    with opened(model, params) as first:
        second = TokenSequence(first.context, lambda: False, 1)
        read(first, document)
        first.copy_to(second)
        read(second, [*document, *question])
        text = [*document, *question, *answer(second, 60, 0).token_ids]
        read(first, document)
        other = [*document, *answer(first, 60, 0).token_ids]
        for sequence, whole, start in ((first, other, 60), (second, text, 68)) * 2:
            with pytest.MonkeyPatch.context() as patch:
                Drafts(partly_right(whole, start)).install(patch)
                read(sequence, whole[:start])
                assert list(answer(sequence, 60, None).token_ids) == whole[start:]


def test_a_negative_draft_is_refused(plain: TokenSequence) -> None:
    plain.drop()
    read(plain, [5, 6])
    with pytest.raises(BackendError, match=r"^-1 tokens cannot be drafted: use 0 for none, or up to 15$"):
        answer(plain, 5, -1)
