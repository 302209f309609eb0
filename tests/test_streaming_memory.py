"""What a stream keeps: its sinks' keys without a growing error, its states, its last tokens taken back."""

from __future__ import annotations

import re
from pathlib import Path

import llama_cpp
import numpy as np
import numpy.typing as npt
import pytest

from library_logits import LoadedContext, Mode
from reference_transformer import Float64, Positions, rotate
from ropewalk.backend import context_plan
from streaming_transformer import Stream, stream_frequencies, streaming_logits
from tiny_models import TinyModel, write_tiny_model
from windowed_contexts import (
    largest_difference,
    opened,
    random_tokens,
    restored,
    restored_whole,
    saved,
    saved_whole,
    streaming_plan,
    with_plan,
)
from windowed_memory import WindowedMemory

pytestmark = pytest.mark.usefixtures("patched_library")

BOUND = 1e-3
WINDOW, SINKS = 64, 4
N_CTX = 512
FACTORS = tuple(float(f) for f in np.float32(4.0 ** (np.arange(8) / 7)))
STREAM = Stream((WINDOW,) * 3, SINKS, FACTORS)
PREPARE = with_plan(streaming_plan(STREAM))
TOKENS = random_tokens(1500, seed=111)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return write_tiny_model(tmp_path_factory.mktemp("stream") / "model.gguf", n_layer=3, seed=112)


@pytest.fixture(scope="module")
def want(model: TinyModel) -> Float64:
    return streaming_logits(model, TOKENS, STREAM)


def read(context: LoadedContext, begin: int, end: int) -> np.ndarray:
    """Logits of the stream's tokens from `begin` to before `end`."""
    parts = range(begin, end, N_CTX)
    return np.concatenate([context.decode(TOKENS[i : min(i + N_CTX, end)], i) for i in parts])


STORED = {llama_cpp.GGML_TYPE_F32: "float32", llama_cpp.GGML_TYPE_F16: "float16"}


def sink_keys(context: LoadedContext, model: TinyModel, kv_type: int) -> Float64:
    """The sinks' keys as the cache of a one-layer model holds them, [sinks, heads, head_dim].

    From the state of the sequence: the number of cells; for each its position, the number of its sequences
    (1) and that sequence; then two numbers, the keys' type, a row's bytes and the rows, by cell.
    """
    raw = bytes(saved(context))
    width = model.n_head_kv * model.head_dim
    row = width * np.dtype(STORED[kv_type]).itemsize
    marker = int(kv_type).to_bytes(4, "little") + row.to_bytes(8, "little")
    at, cells = next(
        (found.start(), cells)
        for found in re.finditer(re.escape(marker), raw)
        if (cells := _cells_before(raw, found.start())) is not None
    )
    n_cells = len(cells)
    keys = np.frombuffer(raw, STORED[kv_type], n_cells * width, at + len(marker))
    keys = keys.astype(np.float64).reshape(n_cells, model.n_head_kv, model.head_dim)
    of_position = {int(position): cell for cell, position in enumerate(cells[:, 0])}
    return np.stack([keys[of_position[sink]] for sink in range(SINKS)])


def _cells_before(raw: bytes, at: int) -> npt.NDArray[np.int32] | None:
    """The cells whose keys begin at `at`, [cells, 3]; None where no such list ends there."""
    for n_cells in range(SINKS, 1024):
        begin = at - 8 - 12 * n_cells
        if begin < 4 or int.from_bytes(raw[begin - 4 : begin], "little") != n_cells:
            continue
        cells = np.frombuffer(raw, np.int32, 3 * n_cells, begin).reshape(n_cells, 3)
        if (cells[:, 1] == 1).all() and set(range(SINKS)) <= set(cells[:, 0].tolist()):
            return cells
    return None


@pytest.mark.parametrize("kv_type", STORED, ids=["f32", "f16"])
def test_sinks_moved_a_hundred_times_are_one_rounding_away_from_a_fresh_rotation(
    tmp_path: Path, kv_type: int
) -> None:
    """Fresh: the keys as they were first written, turned once, in float64, from the origin in force."""
    single = write_tiny_model(tmp_path / "single.gguf", n_layer=1, seed=113)
    stream = Stream((WINDOW,), SINKS, FACTORS)
    last = 108 * stream.block
    assert len({stream.sinks_moved(p, WINDOW) for p in range(last + 1)} - {0}) == 100
    with opened(single.path, N_CTX, Mode(kv_type=kv_type), with_plan(streaming_plan(stream))) as context:
        read(context, 0, WINDOW)
        written = sink_keys(context, single, kv_type)
        read(context, WINDOW, last + 1)
        moved = sink_keys(context, single, kv_type)
    distance = stream.sinks_moved(last, WINDOW) - last // stream.period * stream.period
    angles = np.outer(np.full(SINKS, distance), stream_frequencies(single, stream))
    fresh = rotate(written, angles, interleaved=True)
    one_rounding = float(np.finfo(STORED[kv_type]).eps) / 2
    assert np.abs(moved - written).max() > 0.1
    assert np.all(np.abs(moved - fresh) <= one_rounding * np.abs(fresh) * 1.01 + 1e-9)


@pytest.mark.parametrize("whole", [False, True], ids=["sequence", "whole"])
@pytest.mark.parametrize("at", [30, 66, 700, 1003])
@pytest.mark.parametrize("ubatch_size", [48, 300])
def test_a_state_saved_in_mid_stream_goes_on(
    model: TinyModel, want: Float64, at: int, whole: bool, ubatch_size: int
) -> None:
    with opened(model.path, N_CTX, prepare=PREPARE) as context:
        read(context, 0, at)
        data = saved_whole(context) if whole else saved(context)
    with opened(model.path, N_CTX, Mode(ubatch_size=ubatch_size), PREPARE) as context:
        read(context, 0, 100)  # what was there goes
        assert llama_cpp.llama_memory_seq_rm(context.memory, 0, -1, -1)
        assert restored_whole(context, data) if whole else restored(context, data)
        got = read(context, at, 1500)
    assert largest_difference(got, want[at:]) <= BOUND


def test_the_state_of_another_stream_is_refused(model: TinyModel) -> None:
    with opened(model.path, N_CTX, prepare=PREPARE) as context:
        read(context, 0, 200)
        data = saved(context)
    other = streaming_plan(Stream((WINDOW,) * 3, SINKS + 1, FACTORS))
    with opened(model.path, N_CTX, prepare=with_plan(other)) as context:
        context_plan.last_error()
        assert not restored(context, data)
        assert "another context plan" in context_plan.last_error()
        read(context, 0, 10)


@pytest.mark.parametrize("end", [200, 203, 1000])
@pytest.mark.parametrize("back", [1, 3, 8, 20])
def test_the_last_tokens_are_taken_back_and_others_follow(model: TinyModel, end: int, back: int) -> None:
    """Back over the beginning of a block, and of three: the sinks go back too."""
    others = random_tokens(100, seed=114)
    with opened(model.path, N_CTX, Mode(ubatch_size=48), PREPARE) as context:
        read(context, 0, end)
        assert llama_cpp.llama_memory_seq_rm(context.memory, 0, end - back, -1)
        assert llama_cpp.llama_memory_seq_pos_max(context.memory, 0) == end - back - 1
        got = context.decode(others, end - back)
    expected = streaming_logits(model, [*TOKENS[: end - back], *others], STREAM)[end - back :]
    assert largest_difference(got, expected) <= BOUND


def test_a_cut_that_reaches_too_far_back_changes_nothing(model: TinyModel, want: Float64) -> None:
    with opened(model.path, N_CTX, Mode(ubatch_size=48), PREPARE) as context:
        read(context, 0, 1000)
        for begin in (SINKS + 1, 100, 600):
            assert not llama_cpp.llama_memory_seq_rm(context.memory, 0, begin, -1)
        got = read(context, 1000, 1100)
    assert largest_difference(got, want[1000:1100]) <= BOUND


@pytest.mark.parametrize("by", ["clear", "remove"])
def test_an_emptied_stream_begins_again(model: TinyModel, want: Float64, by: str) -> None:
    with opened(model.path, N_CTX, prepare=PREPARE) as context:
        read(context, 0, 900)
        if by == "clear":
            llama_cpp.llama_memory_clear(context.memory, True)
        else:
            assert llama_cpp.llama_memory_seq_rm(context.memory, 0, -1, -1)
        assert llama_cpp.llama_memory_seq_pos_max(context.memory, 0) == -1
        got = read(context, 0, 900)
    assert largest_difference(got, want[:900]) <= BOUND


def test_states_and_cuts_after_keys_were_moved_inside(tmp_path: Path) -> None:
    """From four windows on the positions inside are not those outside."""
    small = write_tiny_model(
        tmp_path / "model.gguf", n_layer=2, n_embd=32, n_head=2, n_head_kv=1, n_ff=32, seed=115
    )
    stream = Stream((WINDOW,) * 2, SINKS, FACTORS)
    tokens = random_tokens(1700, seed=116)
    expected = streaming_logits(small, tokens, stream)
    prepare = with_plan(streaming_plan(stream))
    start, data = 0, None
    for end in (4 * WINDOW + 5, 4 * WINDOW + 70, 1500):
        with opened(small.path, N_CTX, prepare=prepare) as context:
            if data is not None:
                assert restored(context, data)
            for i in range(start, end, N_CTX):
                context.decode(tokens[i : min(i + N_CTX, end)], i)
            assert llama_cpp.llama_memory_seq_rm(context.memory, 0, end - 30, -1)
            data, start = saved(context), end - 30
            got = context.decode(tokens[start : start + 100], start)
        assert largest_difference(got, expected[start : start + 100]) <= BOUND
    with opened(small.path, N_CTX, prepare=prepare) as context:
        assert data is not None
        assert restored(context, data)
        got = context.decode(tokens[start : start + 200], start)
    assert largest_difference(got, expected[start : start + 200]) <= BOUND


@pytest.mark.parametrize("start", [100, 10**6, 2**30])
def test_a_stream_is_as_exact_however_late(model: TinyModel, start: int) -> None:
    """A text that begins late has no sinks: its windows alone, and angles of a few hundred tokens at most."""
    theta = stream_frequencies(model, STREAM)
    windows = STREAM.windows
    oracle = WindowedMemory(model, windows, 0, lambda layer, m: Positions(np.outer(m - start, theta)))
    with opened(model.path, N_CTX, prepare=PREPARE) as context:
        parts = [context.decode(TOKENS[i : i + 300], start + i) for i in (0, 300)]
    assert largest_difference(np.concatenate(parts), oracle.read(TOKENS[:600], start)) <= BOUND


def test_graphs_are_reused_as_without_a_stream(model: TinyModel) -> None:
    def count(streaming: bool) -> int:
        plan = streaming_plan(STREAM, streaming=streaming)
        with opened(model.path, N_CTX, prepare=with_plan(plan)) as context:
            read(context, 0, 100)
            before = int(llama_cpp.llama_perf_context(context.context).n_reused)
            for position in range(100, 350):
                read(context, position, position + 1)
            return int(llama_cpp.llama_perf_context(context.context).n_reused) - before

    assert count(streaming=True) >= count(streaming=False) >= 240
