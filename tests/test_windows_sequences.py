"""Sequences under windows: cut back, copied, moved, kept, interleaved, aborted; refused rather than wrong.

Oracle: the float64 memory, which keeps every cell.
"""

from __future__ import annotations

from pathlib import Path

import llama_cpp
import numpy as np
import pytest

from abort_callback import AbortCallback
from library_logits import LoadedContext, Mode
from reference_memory import embeddings
from ropewalk.backend import context_plan
from tiny_models import Architecture, TinyModel, write_tiny_model
from windowed_contexts import (
    Row,
    decode_rows,
    in_sequence,
    largest_difference,
    opened,
    random_tokens,
    try_decode,
    windows_plan,
    with_plan,
)
from windowed_memory import WindowedMemory, windowed_logits

pytestmark = pytest.mark.usefixtures("patched_library")

BOUND = 1e-3
SINKS = 3
MIXED = (16, 0, 33, 16)
ALL = (16, 24, 33, 16)
EITHER = pytest.mark.parametrize("windows", [MIXED, ALL], ids=["mixed", "all"])
N_CTX = 4096


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    arch: Architecture = request.param
    path: Path = tmp_path_factory.mktemp("sequences") / f"{arch}.gguf"
    return write_tiny_model(path, arch=arch, n_layer=4, n_embd=32, n_head=2, n_head_kv=1, seed=51)


TOKENS = random_tokens(1000, seed=52)


def positions_held(context: LoadedContext, sequence: int = 0) -> tuple[int, int]:
    """What the library says: the first position from which on it holds all, and the last."""
    return (
        llama_cpp.llama_memory_seq_pos_min(context.memory, sequence),
        llama_cpp.llama_memory_seq_pos_max(context.memory, sequence),
    )


def cut(context: LoadedContext, begin: int, end: int = -1, sequence: int = 0) -> bool:
    return bool(llama_cpp.llama_memory_seq_rm(context.memory, sequence, begin, end))


@EITHER
@pytest.mark.parametrize("back", [1, 2, 15, 16, 48])
def test_a_sequence_can_be_cut_back_by_a_ubatch(
    model: TinyModel, windows: tuple[int, ...], back: int
) -> None:
    """Caches have that many cells to spare; other tokens follow then."""
    tokens = TOKENS[:700]
    other = random_tokens(60, seed=53)
    with opened(model.path, N_CTX, Mode(ubatch_size=48), with_plan(windows_plan(windows, SINKS))) as context:
        context.decode(tokens)
        assert cut(context, 700 - back)
        assert positions_held(context)[1] == 699 - back
        got = context.decode(other, 700 - back)
    want = windowed_logits(model, [*tokens[: 700 - back], *other], windows, SINKS)[700 - back :]
    assert largest_difference(got, want) <= BOUND


@EITHER
def test_a_cut_that_reaches_too_far_back_changes_nothing(model: TinyModel, windows: tuple[int, ...]) -> None:
    tokens = TOKENS[:700]
    want = windowed_logits(model, TOKENS[:720], windows, SINKS)[700:]
    with opened(model.path, N_CTX, Mode(ubatch_size=48), with_plan(windows_plan(windows, SINKS))) as context:
        context.decode(tokens)
        before = positions_held(context)
        for begin in (SINKS + 1, 50, 200, 400):
            assert not cut(context, begin)
        assert positions_held(context) == before
        assert largest_difference(context.decode(TOKENS[700:720], 700), want) <= BOUND
        assert not cut(context, 50)
        assert cut(context, 0)
        assert positions_held(context) == (-1, -1)
        again = context.decode(tokens[:100])
    assert largest_difference(again, windowed_logits(model, tokens[:100], windows, SINKS)) <= BOUND


@EITHER
def test_how_far_back_a_cut_may_reach_is_told_by_the_first_position_held(
    model: TinyModel, windows: tuple[int, ...]
) -> None:
    """Cut to p is right where every position from p - w + 1 on is still held, w the widest window."""
    widest = max(windows)
    with opened(model.path, N_CTX, Mode(ubatch_size=48), with_plan(windows_plan(windows, SINKS))) as context:
        context.decode(TOKENS[:700])
        first, last = positions_held(context)
        assert SINKS < first <= 700 - widest
        assert last == 699
        begin = first + widest - 1
        assert cut(context, begin)
        got = context.decode(TOKENS[begin : begin + 50], begin)
    want = windowed_logits(model, TOKENS[: begin + 50], windows, SINKS)[begin:]
    assert largest_difference(got, want) <= BOUND


@EITHER
def test_while_all_is_held_the_first_position_is_zero_and_every_cut_is_right(
    model: TinyModel, windows: tuple[int, ...]
) -> None:
    """256 cells hold 250 tokens."""
    with opened(model.path, N_CTX, Mode(ubatch_size=48), with_plan(windows_plan(windows, SINKS))) as context:
        context.decode(TOKENS[:250])
        assert positions_held(context) == (0, 249)
        for begin in (249, 130, 17, 2, 1):
            assert cut(context, begin)
            assert positions_held(context) == (0, begin - 1)
            got = context.decode(TOKENS[begin:150], begin) if begin < 150 else None
            if got is not None:
                want = windowed_logits(model, TOKENS[:150], windows, SINKS)[begin:]
                assert largest_difference(got, want) <= BOUND


def test_a_prefix_shared_by_many_never_exhausts_the_cells(model: TinyModel) -> None:
    """Each goes on for many windows; cells that all have left behind are used again."""
    n_sequences = 4
    mode = Mode(ubatch_size=48, n_seq_max=n_sequences, kv_unified=True)
    plan = windows_plan(ALL, SINKS)
    oracle = WindowedMemory(model, ALL, SINKS)
    with opened(model.path, N_CTX, mode, with_plan(plan)) as context:
        prefix = TOKENS[:300]
        context.decode(prefix)
        oracle.decode(prefix)
        for sequence in range(1, n_sequences):
            llama_cpp.llama_memory_seq_cp(context.memory, 0, sequence, -1, -1)
            oracle.copy(0, sequence)
        for step in range(12):
            batches = [random_tokens(40, seed=100 + 10 * step + s) for s in range(n_sequences)]
            rows = [Row(batches[s][i], 300 + 40 * step + i, s) for i in range(40) for s in range(n_sequences)]
            assert largest_difference(decode_rows(context, rows), read_rows(oracle, model, rows)) <= BOUND


def read_rows(oracle: WindowedMemory, model: TinyModel, rows: list[Row]) -> np.ndarray:
    """The oracle's logits of a batch, [rows, vocabulary]."""
    hidden = oracle.decode_rows(
        embeddings(model, [row.token for row in rows]),
        [row.position for row in rows],
        [row.sequence for row in rows],
    )
    return oracle.logits(hidden)


@pytest.mark.parametrize("unified", [True, False], ids=["unified", "streams"])
@EITHER
def test_long_sequences_side_by_side(model: TinyModel, windows: tuple[int, ...], unified: bool) -> None:
    """One of them stands still most of the time: the others must not drive out what it still needs."""
    mode = Mode(ubatch_size=48, n_seq_max=3, kv_unified=unified)
    oracle = WindowedMemory(model, windows, SINKS)
    ends = [0, 0, 0]
    rng = np.random.default_rng(55)
    with opened(model.path, 3 * 1536, mode, with_plan(windows_plan(windows, SINKS))) as context:
        for step in range(14):
            sizes = [60, 45, 30 if step in (0, 7, 13) else 0]
            rows = []
            for sequence in rng.permutation(np.repeat(np.arange(3), sizes)):
                rows.append(Row(int(rng.integers(3, 360)), ends[sequence], int(sequence)))
                ends[sequence] += 1
            assert largest_difference(decode_rows(context, rows), read_rows(oracle, model, rows)) <= BOUND


@pytest.mark.parametrize("unified", [True, False], ids=["unified", "streams"])
def test_a_copy_goes_on_from_where_its_source_was(model: TinyModel, unified: bool) -> None:
    mode = Mode(ubatch_size=48, n_seq_max=2, kv_unified=unified)
    with opened(model.path, 2 * 1536, mode, with_plan(windows_plan(MIXED, SINKS))) as context:
        context.decode(TOKENS[:500])
        llama_cpp.llama_memory_seq_cp(context.memory, 0, 1, -1, -1)
        assert positions_held(context, 1) == positions_held(context, 0)
        other = random_tokens(300, seed=56)
        got = decode_rows(context, in_sequence(other, 500, 1))
        went_on = decode_rows(context, in_sequence(TOKENS[500:800], 500, 0))
    want = windowed_logits(model, [*TOKENS[:500], *other], MIXED, SINKS)[500:]
    assert largest_difference(got, want) <= BOUND
    assert largest_difference(went_on, windowed_logits(model, TOKENS[:800], MIXED, SINKS)[500:]) <= BOUND


def test_a_copy_of_a_part_whose_window_is_gone_is_refused_when_it_is_read(model: TinyModel) -> None:
    mode = Mode(ubatch_size=48, n_seq_max=2, kv_unified=True)
    with opened(model.path, N_CTX, mode, with_plan(windows_plan(MIXED, SINKS))) as context:
        context.decode(TOKENS[:900])
        llama_cpp.llama_memory_seq_cp(context.memory, 0, 1, 0, 100)
        context_plan.last_error()
        assert try_decode(context, in_sequence(TOKENS[100:110], 100, 1)) == -2
        assert context_plan.last_error() != ""
        got = decode_rows(context, in_sequence(TOKENS[900:920], 900, 0))  # the source is none the worse
        assert cut(context, 0, sequence=1)
        fresh = decode_rows(context, in_sequence(TOKENS[:110], 0, 1))
    want = windowed_logits(model, TOKENS[:920], MIXED, SINKS)
    assert largest_difference(got, want[900:]) <= BOUND
    assert largest_difference(fresh, want[:110]) <= BOUND


@EITHER
def test_shifted_keys_are_read_at_their_new_positions(model: TinyModel, windows: tuple[int, ...]) -> None:
    """Tokens after the sinks are discarded and the rest moves up: the K-shift, in every cache."""
    oracle = WindowedMemory(model, windows, SINKS)
    start = 0
    with opened(model.path, N_CTX, Mode(ubatch_size=48), with_plan(windows_plan(windows, SINKS))) as context:
        assert llama_cpp.llama_memory_can_shift(context.memory)
        for seed in range(4):
            tokens = random_tokens(330, seed=60 + seed)
            got = decode_rows(context, in_sequence(tokens, start))
            assert largest_difference(got, oracle.read(tokens, start)) <= BOUND
            start += 330
            assert cut(context, SINKS, SINKS + 150)
            llama_cpp.llama_memory_seq_add(context.memory, 0, SINKS + 150, -1, -150)
            oracle.remove(0, SINKS, SINKS + 150)
            oracle.shift(0, SINKS + 150, -150)
            start -= 150


def test_a_shift_that_brings_forgotten_tokens_into_a_window_is_refused_when_it_is_read(
    model: TinyModel,
) -> None:
    """Tokens 600 to 995 are discarded; the next would see 590 to 599, which the narrow layers have let go."""
    with opened(model.path, N_CTX, Mode(ubatch_size=48), with_plan(windows_plan(MIXED, SINKS))) as context:
        context.decode(TOKENS)
        assert cut(context, 600, 996) is False or shifted_and_refused(context)
        assert cut(context, 0)
        again = context.decode(TOKENS[:50])
    assert largest_difference(again, windowed_logits(model, TOKENS[:50], MIXED, SINKS)) <= BOUND


def shifted_and_refused(context: LoadedContext) -> bool:
    """Whether a decode after the shift is refused, with a reason."""
    llama_cpp.llama_memory_seq_add(context.memory, 0, 996, -1, -396)
    context_plan.last_error()
    refused = try_decode(context, in_sequence(TOKENS[:3], 604)) == -2
    return refused and context_plan.last_error() != ""


def test_a_kept_sequence_goes_on_alone(model: TinyModel) -> None:
    mode = Mode(ubatch_size=48, n_seq_max=3, kv_unified=True)
    with opened(model.path, N_CTX, mode, with_plan(windows_plan(MIXED, SINKS))) as context:
        context.decode(TOKENS[:400])
        for sequence in (1, 2):
            llama_cpp.llama_memory_seq_cp(context.memory, 0, sequence, -1, -1)
            decode_rows(context, in_sequence(random_tokens(70, seed=sequence), 400, sequence))
        llama_cpp.llama_memory_seq_keep(context.memory, 1)
        assert positions_held(context, 0) == positions_held(context, 2) == (-1, -1)
        got = decode_rows(context, in_sequence(TOKENS[:50], 470, 1))
        fresh = decode_rows(context, in_sequence(TOKENS[:50], 0, 0))
    text = [*TOKENS[:400], *random_tokens(70, seed=1), *TOKENS[:50]]
    assert largest_difference(got, windowed_logits(model, text, MIXED, SINKS)[470:]) <= BOUND
    assert largest_difference(fresh, windowed_logits(model, TOKENS[:50], MIXED, SINKS)) <= BOUND


@EITHER
@pytest.mark.parametrize("after", [0, 1, 4])
def test_an_aborted_batch_is_rolled_back_and_the_text_goes_on_right(
    model: TinyModel, windows: tuple[int, ...], after: int
) -> None:
    """The abort callback says stop in the graph of one of six ubatches; those before it stay."""
    with opened(model.path, N_CTX, Mode(ubatch_size=48), with_plan(windows_plan(windows, SINKS))) as context:
        context.decode(TOKENS[:700])
        callback = AbortCallback(context)
        asked = callback.count(lambda: context.decode(TOKENS[700:748], 700))
        assert cut(context, 700)
        status = callback.decode(in_sequence(TOKENS[700:988], 700), after * asked + asked // 2)
        assert status == 2
        held = positions_held(context)[1] + 1
        assert held == 700 + 48 * after
        got = context.decode(TOKENS[held:950], held)
    assert largest_difference(got, windowed_logits(model, TOKENS[:950], windows, SINKS)[held:]) <= BOUND
