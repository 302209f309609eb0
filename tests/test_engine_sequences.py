"""Several texts in one context: each answers as it does alone, copies share cells, and room is counted."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from library_logits import greedy_tokens
from ropewalk.backend.cells import CellLedger
from ropewalk.engine import Engine, EngineError, EngineOptions, PromptTooLong
from ropewalk_plan import ContextPlan, GgufHeader, make_plan, rope_spec_from_gguf
from tiny_models import write_tiny_model

pytestmark = pytest.mark.usefixtures("patched_library")

OPTIONS = EngineOptions(n_ctx=1000, threads=1, batch_size=16, ubatch_size=16, n_sequences=3)


def tokens_of(count: int, seed: int) -> list[int]:
    return [int(token) for token in np.random.default_rng(seed).integers(3, 360, count)]


@pytest.fixture(scope="module")
def started() -> Iterator[Engine]:
    with Engine.start() as engine:
        yield engine


@pytest.fixture
def engine(started: Engine, tiny_llama: Path) -> Engine:
    started.load(tiny_llama, OPTIONS)
    return started


def go_on(engine: Engine, sequence: int, count: int = 8) -> tuple[int, ...]:
    generation = engine.generate(count, stop_at_eog=False, sequence=sequence)
    list(generation)
    return generation.result.token_ids


def alone(path: Path, tokens: Sequence[int], count: int = 8) -> tuple[int, ...]:
    """What the bare library answers to a text of its own."""
    return tuple(greedy_tokens(path, list(tokens), count))


def test_interleaved_texts_answer_as_each_does_alone(engine: Engine, tiny_llama: Path) -> None:
    texts = [tokens_of(100 + 40 * i, seed=i) for i in range(3)]
    expected = [alone(tiny_llama, text, 24) for text in texts]
    for end in (40, 70, 400):
        for sequence, text in enumerate(texts):
            read_before = {40: 0, 70: 40, 400: 70}[end]
            assert engine.prefill(text[:end], sequence=sequence).cached_tokens == read_before
    answers: list[list[int]] = [[], [], []]
    for _ in range(3):
        for sequence, text in enumerate(texts):
            engine.prefill([*text, *answers[sequence]], sequence=sequence)
            answers[sequence] += go_on(engine, sequence)
    assert [tuple(answer) for answer in answers] == expected


def test_an_answer_may_wait_while_others_are_read(engine: Engine, tiny_llama: Path) -> None:
    """The logits computed last are another text's then; its own are computed again."""
    first, second = tokens_of(90, seed=3), tokens_of(60, seed=4)
    engine.prefill(first, sequence=0)
    engine.prefill(second, sequence=2)

    assert go_on(engine, 0) == alone(tiny_llama, first)
    assert go_on(engine, 2) == alone(tiny_llama, second)


def test_a_copy_answers_as_the_original_and_both_go_their_ways(engine: Engine, tiny_llama: Path) -> None:
    document = tokens_of(200, seed=5)
    questions = [tokens_of(10, seed=6), tokens_of(12, seed=7)]
    engine.prefill(document)

    assert engine.copy_sequence(0, 1) == 200
    assert go_on(engine, 1) == go_on(engine, 0) == alone(tiny_llama, document)
    for sequence, question in enumerate(questions):
        text = [*document, *question]
        assert engine.reusable(text, sequence=sequence) == 200
        assert engine.prefill(text, sequence=sequence).cached_tokens == 200
    for sequence, question in enumerate(questions):
        assert go_on(engine, sequence) == alone(tiny_llama, [*document, *question])


def test_a_copy_survives_its_original(engine: Engine, tiny_llama: Path) -> None:
    document = tokens_of(200, seed=8)
    engine.prefill(document)
    engine.copy_sequence(0, 1)
    engine.drop_sequence(0)
    engine.prefill(tokens_of(300, seed=9), sequence=0)

    assert go_on(engine, 1) == alone(tiny_llama, document)
    assert engine.prefill([*document, 5], sequence=1).cached_tokens == 200


def test_a_copy_takes_the_place_of_what_was_there(engine: Engine, tiny_llama: Path) -> None:
    document = tokens_of(50, seed=10)
    engine.prefill(document)
    engine.prefill(tokens_of(700, seed=11), sequence=1)

    assert engine.copy_sequence(0, 1) == 50
    assert engine.copy_sequence(2, 1) == 0
    assert engine.copy_sequence(0, 0) == 50
    assert engine.reusable(document, sequence=1) == 0
    assert engine.prefill(tokens_of(900, seed=12), sequence=1).prompt_tokens == 900
    assert go_on(engine, 0) == alone(tiny_llama, document)


def test_an_edited_prompt_is_read_from_the_edit_on(engine: Engine, tiny_llama: Path) -> None:
    document = tokens_of(300, seed=13)
    edited = [*document[:170], 7, 8, *document[175:]]
    engine.prefill(document, sequence=1)

    assert engine.reusable(edited, sequence=1) == 170
    assert engine.prefill(edited, sequence=1).cached_tokens == 170
    assert go_on(engine, 1) == alone(tiny_llama, edited)


def test_what_is_shared_takes_its_room_once(engine: Engine) -> None:
    document = tokens_of(900, seed=14)
    engine.prefill(document)
    engine.copy_sequence(0, 1)
    engine.copy_sequence(0, 2)

    for sequence in range(3):  # 100 tokens are left for all
        engine.prefill([*document, *tokens_of(33, seed=20 + sequence)], sequence=sequence)
    with pytest.raises(
        PromptTooLong, match=r"has 935 tokens and beside the other texts .* room for 934: drop one"
    ):
        engine.prefill([*document, *tokens_of(35, seed=21)], sequence=1)
    assert engine.reusable([*document, *tokens_of(33, seed=21), 1], sequence=1) == 933, "nothing has changed"
    engine.drop_sequence(0)
    assert engine.prefill([*document, *tokens_of(67, seed=21)], sequence=1).prompt_tokens == 967


def test_answers_end_where_all_texts_fill_the_context(engine: Engine) -> None:
    engine.prefill(tokens_of(500, seed=15), sequence=0)
    engine.prefill(tokens_of(480, seed=16), sequence=1)
    generation = engine.generate(100, stop_at_eog=False, sequence=1)
    list(generation)

    assert generation.result.reason == "length"
    assert generation.result.tokens == 21  # the last one need not be computed
    assert engine.reusable(tokens_of(500, seed=15), sequence=0) == 499


def test_resizing_keeps_what_fits(engine: Engine, tiny_llama: Path) -> None:
    texts = [tokens_of(count, seed=count) for count in (300, 250, 200)]
    for sequence, text in enumerate(texts):
        engine.prefill(text, sequence=sequence)

    engine.resize(520)

    assert [engine.reusable([*text, 5], sequence=i) for i, text in enumerate(texts)] == [300, 0, 200]
    engine.prefill(texts[2], sequence=2)
    assert go_on(engine, 2) == alone(tiny_llama, texts[2])


@pytest.mark.parametrize("number", [0, 257, -1])
def test_a_wrong_number_of_sequences_is_named(started: Engine, tiny_llama: Path, number: int) -> None:
    with pytest.raises(EngineError, match=f"{number} sequences: a context holds 1 to 256"):
        started.load(tiny_llama, EngineOptions(n_ctx=64, n_sequences=number))


def test_a_sequence_that_is_not_there_is_named(engine: Engine, tmp_path: Path) -> None:
    why = "there is no sequence 3: the context was made for 3, from 0 on"
    with pytest.raises(EngineError, match=why):
        engine.prefill([5], sequence=3)
    with pytest.raises(EngineError, match=why):
        engine.copy_sequence(0, 3)
    with pytest.raises(EngineError, match="no sequence -1"):
        engine.drop_sequence(-1)
    with pytest.raises(EngineError, match=why):
        engine.save_state(tmp_path / "state", sequence=3)
    with pytest.raises(EngineError, match="read a prompt first"):
        list(engine.generate(5, sequence=1))
    with pytest.raises(EngineError, match="nothing to save"):
        engine.save_state(tmp_path / "state")


# Plans


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("sequences") / "model.gguf", n_layer=3).path


def made(model: Path, method: str, target: int = 512, **options: str) -> ContextPlan:
    return make_plan(rope_spec_from_gguf(GgufHeader.read(model)), method, target, options=options)


def with_plan(plan: ContextPlan, n_sequences: int = 3) -> EngineOptions:
    return dataclasses.replace(OPTIONS, plan=plan, n_sequences=n_sequences)


def fresh(engine: Engine, model: Path, plan: ContextPlan, tokens: list[int]) -> tuple[int, ...]:
    engine.load(model, with_plan(plan, n_sequences=1))
    engine.prefill(tokens)
    return go_on(engine, 0)


@pytest.mark.parametrize("windows", ["24", "16/0/48", "200"])
@pytest.mark.parametrize("method", ["windows", "dprope+windows"])
def test_texts_under_windows_answer_as_alone(started: Engine, model: Path, method: str, windows: str) -> None:
    """Read in turns, copied, cut back where the window allows it, and read again where it does not."""
    plan = made(model, method, windows=windows, sinks="3")
    document, other = tokens_of(350, seed=30), tokens_of(150, seed=31)
    asked = [[*document, *tokens_of(9, seed=32)], [*document, *tokens_of(11, seed=33)]]
    edited = [*document[:100], 9, *document[101:]]
    expected = [fresh(started, model, plan, text) for text in (*asked, other, edited)]
    started.load(model, with_plan(plan))
    for end in (64, 130, 350):
        started.prefill(document[:end], sequence=0)
        started.prefill(other[:end], sequence=2)

    assert started.copy_sequence(0, 1) == 350
    for _ in range(2):
        for sequence, text in enumerate(asked):
            promised = started.reusable(text, sequence=sequence)
            kept = started.prefill(text, sequence=sequence).cached_tokens
            assert promised <= kept
            assert kept >= 350
            assert go_on(started, sequence) == expected[sequence]
    started.prefill(other, sequence=2)
    assert go_on(started, 2) == expected[2]
    assert started.reusable(edited, sequence=1) in (0, 100)
    started.prefill(edited, sequence=1)
    assert go_on(started, 1) == expected[3]
    started.prefill(asked[0], sequence=0)
    assert go_on(started, 0) == expected[0]


def test_a_stream_holds_one_text(started: Engine, model: Path) -> None:
    plan = made(model, "streaming", window="32", sinks="4")
    with pytest.raises(
        EngineError, match="2 sequences under a plan that streams, which holds one text at a time"
    ):
        started.load(model, with_plan(plan, n_sequences=2))
    assert started.load(model, with_plan(plan, n_sequences=1)).streams


def test_a_reservation_for_one_text_is_kept_while_others_are_read(started: Engine, model: Path) -> None:
    """The longest of all decides which factors are in force, from its first token on."""
    plan = made(model, "dynamic-ntk")
    short, long = tokens_of(60, seed=40), tokens_of(400, seed=41)
    expected = fresh(started, model, plan, long)
    started.load(model, with_plan(plan))
    started.prefill(long[:33], reserve=len(long))
    for sequence in (1, 2):
        started.prefill(short, sequence=sequence)
        started.drop_sequence(sequence)
    started.prefill(long)

    assert go_on(started, 0) == expected


# The ledger, against sets of cells


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["grow", "cut", "copy"]), st.integers(0, 2), st.integers(0, 2), st.integers(0, 9)
        ),
        max_size=40,
    )
)
@settings(max_examples=300)
def test_the_ledger_counts_cells(steps: list[tuple[str, int, int, int]]) -> None:
    ledger = CellLedger(3)
    held: list[list[int]] = [[], [], []]  # numbers of cells
    made_so_far = 0
    for what, sequence, other, amount in steps:
        if what == "grow":
            held[sequence] = held[sequence] + list(range(made_so_far, made_so_far + amount))
            made_so_far += amount
            ledger.set_length(sequence, len(held[sequence]))
        elif what == "cut":
            held[sequence] = held[sequence][: max(0, len(held[sequence]) - amount)]
            ledger.set_length(sequence, len(held[sequence]))
        elif sequence != other:
            held[other] = list(held[sequence])
            ledger.copy(sequence, other)
        assert [ledger.length(i) for i in range(3)] == [len(cells) for cells in held]
        assert ledger.used() == len({cell for cells in held for cell in cells})
        cut = [*held[:sequence], held[sequence][:amount], *held[sequence + 1 :]]
        assert ledger.used_with(sequence, min(amount, len(held[sequence]))) == len(
            {c for cs in cut for c in cs}
        )
