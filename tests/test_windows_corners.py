"""Windows where callers do what is seldom done: right all the same, or refused with a sentence."""

from __future__ import annotations

import ctypes
from pathlib import Path

import llama_cpp
import numpy as np
import pytest

from library_logits import LoadedContext, Mode
from reference_transformer import Float64
from ropewalk.backend import context_plan
from tiny_models import TinyModel, write_tiny_model
from windowed_contexts import (
    State,
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
WINDOWS = (16, 0, 33)
PREPARE = with_plan(windows_plan(WINDOWS, SINKS))
N_CTX = 4096
TOKENS = random_tokens(900, seed=131)
UNIFIED = Mode(ubatch_size=48, n_seq_max=3, kv_unified=True)
STREAMS = Mode(ubatch_size=48, n_seq_max=3)
REFUSED = -2


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    path: Path = tmp_path_factory.mktemp("corners") / "model.gguf"
    return write_tiny_model(path, n_layer=3, n_embd=32, n_head=2, n_head_kv=1, seed=132)


@pytest.fixture(scope="module")
def want(model: TinyModel) -> Float64:
    return windowed_logits(model, TOKENS, WINDOWS, SINKS)


def assert_refused_until_emptied(context: LoadedContext, sequence: int, why: str, want: Float64) -> None:
    """A sequence is not read on, for this reason; emptied, it is read anew."""
    position = llama_cpp.llama_memory_seq_pos_max(context.memory, sequence) + 1
    context_plan.last_error()
    assert try_decode(context, in_sequence(TOKENS[:5], position, sequence)) == REFUSED
    assert why in context_plan.last_error()
    assert llama_cpp.llama_memory_seq_rm(context.memory, sequence, -1, -1)
    got = decode_rows(context, in_sequence(TOKENS[:100], 0, sequence))
    assert largest_difference(got, want[:100]) <= BOUND


def test_a_part_of_a_sequence_is_not_copied_to_another_stream(model: TinyModel, want: Float64) -> None:
    """llama.cpp itself aborts there, or copies the whole."""
    for end in (300, 700):  # with more positions than a small cache has cells, and with fewer
        with opened(model.path, N_CTX, STREAMS, PREPARE) as context:
            decode_rows(context, in_sequence(TOKENS[:800], 0, 0))
            llama_cpp.llama_memory_seq_cp(context.memory, 0, 1, 0, end)
            assert_refused_until_emptied(context, 1, "another stream", want)
            got = decode_rows(context, in_sequence(TOKENS[800:], 800, 0))
            assert largest_difference(got, want[800:]) <= BOUND


def test_positions_are_not_divided(model: TinyModel, want: Float64) -> None:
    """llama.cpp turns their keys the wrong way."""
    with opened(model.path, N_CTX, Mode(ubatch_size=48), PREPARE) as context:
        context.decode(TOKENS[:300])
        llama_cpp.llama_memory_seq_div(context.memory, 0, 0, -1, 2)
        assert_refused_until_emptied(context, 0, "divided", want)


def test_who_shares_cells_that_were_shifted_is_refused(model: TinyModel, want: Float64) -> None:
    with opened(model.path, N_CTX, UNIFIED, PREPARE) as context:
        context.decode(TOKENS[:300])
        llama_cpp.llama_memory_seq_cp(context.memory, 0, 1, -1, -1)
        assert llama_cpp.llama_memory_seq_rm(context.memory, 0, SINKS, 100)
        llama_cpp.llama_memory_seq_add(context.memory, 0, 100, -1, SINKS - 100)
        assert_refused_until_emptied(context, 1, "shift", want)
        oracle = WindowedMemory(model, WINDOWS, SINKS)
        oracle.decode(TOKENS[:300])
        oracle.remove(0, SINKS, 100)
        oracle.shift(0, 100, SINKS - 100)
        start = 300 - 100 + SINKS
        got = decode_rows(context, in_sequence(TOKENS[300:400], start, 0))
    assert largest_difference(got, oracle.read(TOKENS[300:400], start)) <= BOUND


@pytest.mark.parametrize("mode", [UNIFIED, STREAMS], ids=["unified", "streams"])
def test_all_sequences_are_cut_or_none_is(model: TinyModel, want: Float64, mode: Mode) -> None:
    """Sequence -1 is every sequence; one of them has let go of what it would need."""
    with opened(model.path, N_CTX, mode, PREPARE) as context:
        decode_rows(context, in_sequence(TOKENS[:120], 0, 0))
        decode_rows(context, in_sequence(TOKENS[:800], 0, 1))
        assert not llama_cpp.llama_memory_seq_rm(context.memory, -1, 100, -1)
        assert llama_cpp.llama_memory_seq_pos_max(context.memory, 0) == 119
        assert llama_cpp.llama_memory_seq_rm(context.memory, 1, 790, -1)
        assert llama_cpp.llama_memory_seq_rm(context.memory, -1, 785, -1)
        for sequence, start in ((0, 120), (1, 785)):
            got = decode_rows(context, in_sequence(TOKENS[start : start + 40], start, sequence))
            assert largest_difference(got, want[start : start + 40]) <= BOUND
        assert llama_cpp.llama_memory_seq_rm(context.memory, -1, -1, -1)
        for sequence in range(3):
            assert llama_cpp.llama_memory_seq_pos_max(context.memory, sequence) == -1


def test_no_state_of_a_sequence_that_lacks_something_is_saved(model: TinyModel) -> None:
    with opened(model.path, N_CTX, UNIFIED, PREPARE) as context:
        context.decode(TOKENS[:800])
        llama_cpp.llama_memory_seq_cp(context.memory, 0, 1, 0, 100)
        context_plan.last_error()
        data = (ctypes.c_uint8 * 10_000_000)()
        assert llama_cpp.llama_state_seq_get_data(context.context, data, len(data), 1) == 0
        assert context_plan.last_error() != ""
        assert llama_cpp.llama_state_seq_get_data(context.context, data, len(data), 0) > 0


def test_tokens_of_two_sequences_at_once(model: TinyModel, want: Float64) -> None:
    """A prompt read once for both, which then part."""
    with opened(model.path, N_CTX, UNIFIED, PREPARE) as context:
        batch = llama_cpp.llama_batch_init(500, 0, 2)
        batch.n_tokens = 500
        for i, token in enumerate(TOKENS[:500]):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 2, False
            batch.seq_id[i][0], batch.seq_id[i][1] = 0, 1
        assert llama_cpp.llama_decode(context.context, batch) == 0
        llama_cpp.llama_batch_free(batch)
        other = random_tokens(300, seed=133)
        got = decode_rows(context, in_sequence(TOKENS[500:800], 500, 0))
        got_other = decode_rows(context, in_sequence(other, 500, 1))
    assert largest_difference(got, want[500:800]) <= BOUND
    text = [*TOKENS[:500], *other]
    assert largest_difference(got_other, windowed_logits(model, text, WINDOWS, SINKS)[500:]) <= BOUND


@pytest.mark.parametrize("start", [2, 50, 2000])
def test_a_text_that_begins_late_has_no_sinks(model: TinyModel, start: int) -> None:
    """llama.cpp lets a sequence begin anywhere; what stands first is a sink by its position alone."""
    oracle = WindowedMemory(model, WINDOWS, SINKS)
    with opened(model.path, N_CTX, Mode(ubatch_size=48), PREPARE) as context:
        got = context.decode(TOKENS[:500], start)
        assert largest_difference(got, oracle.read(TOKENS[:500], start)) <= BOUND
        assert llama_cpp.llama_memory_seq_rm(context.memory, 0, start + 490, -1)
        oracle.remove(0, start + 490)
        got = context.decode(TOKENS[500:560], start + 490)
    assert largest_difference(got, oracle.read(TOKENS[500:560], start + 490)) <= BOUND


def test_contexts_keep_the_windows_they_were_made_with(model: TinyModel, want: Float64) -> None:
    """One model, three contexts: windows, other windows, none."""
    others = windows_plan((0, 20, 0), 1)
    with opened(model.path, N_CTX, Mode(ubatch_size=48), PREPARE) as first:
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = parameters.n_batch = 1024
        parameters.type_k = parameters.type_v = llama_cpp.GGML_TYPE_F32
        parameters.flash_attn_type = 0
        made = []
        for plan in (others, None):
            context_plan.set_plan(first.model, plan)
            made.append(llama_cpp.llama_init_from_model(first.model, parameters))
        second, third = (LoadedContext(first.model, context, first.n_vocab) for context in made)
        try:
            for context, expected in (
                (first, want[:400]),
                (second, windowed_logits(model, TOKENS[:400], others.windows, 1)),
                (third, windowed_logits(model, TOKENS[:400], (0, 0, 0))),
            ):
                assert largest_difference(context.decode(TOKENS[:400]), expected) <= BOUND
        finally:
            for handle in made:
                llama_cpp.llama_free(handle)


PARTIAL = 1  # LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY


def checkpoint(context: LoadedContext) -> State:
    """What a server keeps to come back to: the windowed layers' cells alone."""
    size = llama_cpp.llama_state_seq_get_size_ext(context.context, 0, PARTIAL)
    data: State = (ctypes.c_uint8 * size)()
    assert llama_cpp.llama_state_seq_get_data_ext(context.context, data, size, 0, PARTIAL) == size
    return data


def test_a_checkpoint_of_the_windowed_layers_lets_a_sequence_go_back(model: TinyModel, want: Float64) -> None:
    """Farther than its caches reach; it is smaller than the whole, by the dense layer's cells."""
    other = random_tokens(100, seed=134)
    with opened(model.path, N_CTX, Mode(ubatch_size=48), PREPARE) as context:
        context.decode(TOKENS[:400])
        data = checkpoint(context)
        assert len(data) < 0.6 * llama_cpp.llama_state_seq_get_size(context.context, 0)
        context.decode(TOKENS[400:], 400)
        assert not llama_cpp.llama_memory_seq_rm(context.memory, 0, 400, -1)
        read = llama_cpp.llama_state_seq_set_data_ext(context.context, data, len(data), 0, PARTIAL)
        assert read == len(data)
        assert llama_cpp.llama_memory_seq_rm(context.memory, 0, 400, -1)
        got = context.decode(other, 400)
    text = [*TOKENS[:400], *other]
    assert largest_difference(got, windowed_logits(model, text, WINDOWS, SINKS)[400:]) <= BOUND


def test_a_checkpoint_for_which_the_dense_layer_holds_too_little_is_not_read_on(
    model: TinyModel, want: Float64
) -> None:
    with opened(model.path, N_CTX, Mode(ubatch_size=48), PREPARE) as context:
        context.decode(TOKENS[:400])
        data = checkpoint(context)
        assert llama_cpp.llama_memory_seq_rm(context.memory, 0, -1, -1)
        context.decode(TOKENS[:100])
        llama_cpp.llama_state_seq_set_data_ext(context.context, data, len(data), 0, PARTIAL)
        end = llama_cpp.llama_memory_seq_pos_max(context.memory, 0) + 1
        status = try_decode(context, in_sequence(TOKENS[end : end + 5], end))
        if status == 0:  # it was not taken, and the sequence is what it was
            values = llama_cpp.llama_get_logits(context.context)
            got = np.ctypeslib.as_array(values, shape=(5, context.n_vocab))
            assert largest_difference(got, want[end : end + 5]) <= BOUND
            assert end == 100
        else:
            assert status == REFUSED
