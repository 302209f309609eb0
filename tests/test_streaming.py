"""Streaming: a text of any length through a window that moves in blocks, with sinks just before it.

Oracle: `streaming_transformer`, in float64, over the whole stream. Bound: with an F32 cache and flash
attention off 1e-3, at every position of the stream, however late.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import llama_cpp
import numpy as np
import pytest

from library_logits import LoadedContext, Mode
from reference_transformer import Float64, plain_positions, reference_logits
from ropewalk.backend import native_log
from streaming_transformer import Stream, streaming_logits
from tiny_models import Architecture, TinyModel, write_tiny_model
from windowed_contexts import (
    TARGET_LENGTH,
    Cache,
    largest_difference,
    logged_caches,
    opened,
    opened_logits,
    random_tokens,
    streaming_plan,
    with_plan,
)

pytestmark = pytest.mark.usefixtures("patched_library")

BOUND = 1e-3
N_LAYER = 3
N_PAIRS = 8
LENGTH = 10 * TARGET_LENGTH
N_CTX = 512
TOKENS = random_tokens(LENGTH, seed=101)
FACTORS = tuple(float(f) for f in np.float32(4.0 ** (np.arange(N_PAIRS) / (N_PAIRS - 1))))
STREAM = Stream((64, 64, 64), 4, FACTORS)
STREAMS = {
    "no-sinks": Stream((64, 64, 64), 0, FACTORS),
    "one-sink": Stream((64, 64, 64), 1, FACTORS),
    "four-sinks": STREAM,
    "attention-factor": Stream((64, 64, 64), 4, FACTORS, 1.1),
    "several-windows": Stream((40, 64, 100), 4, FACTORS),
    "blocks-of-one": Stream((15, 15, 15), 3, FACTORS),
    "more-sinks-than-block": Stream((16, 16, 16), 20, FACTORS),
}

Reference = Callable[[Stream, int], Float64]
"""(stream, tokens) to the oracle's logits of so many tokens."""


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    arch: Architecture = request.param
    path = tmp_path_factory.mktemp("streaming") / f"{arch}.gguf"
    return write_tiny_model(path, arch=arch, n_layer=N_LAYER, seed=102)


@pytest.fixture(scope="module")
def reference(model: TinyModel) -> Reference:
    """Each computed once."""
    return cache(lambda stream, count: streaming_logits(model, TOKENS[:count], stream))


def read(context: LoadedContext, tokens: list[int], size: int, start: int = 0) -> np.ndarray:
    """Logits of all tokens, [tokens, vocabulary], in batches of `size`."""
    parts = [tokens[i : i + size] for i in range(0, len(tokens), size)]
    return np.concatenate([context.decode(part, start + i * size) for i, part in enumerate(parts)])


@pytest.mark.parametrize("name", STREAMS)
def test_ten_times_the_target_length(model: TinyModel, reference: Reference, name: str) -> None:
    stream = STREAMS[name]
    with opened(model.path, N_CTX, prepare=with_plan(streaming_plan(stream))) as context:
        got = read(context, TOKENS, N_CTX)
    want = reference(stream, LENGTH)
    assert largest_difference(got, want) <= BOUND


def test_a_plan_that_was_ignored_would_be_seen(model: TinyModel, reference: Reference) -> None:
    want = reference(STREAM, LENGTH)[:400]
    assert largest_difference(opened_logits(model.path, TOKENS[:400]), want) > 100 * BOUND
    standing = streaming_logits(model, TOKENS[:400], Stream((64,) * 3, 0, FACTORS))
    assert largest_difference(standing, want) > 100 * BOUND, "sinks are seen"


@pytest.mark.parametrize("ubatch_size", [1, 3, 48, 512])
def test_results_do_not_depend_on_the_ubatch(
    model: TinyModel, reference: Reference, ubatch_size: int
) -> None:
    plan = streaming_plan(STREAM)
    with opened(model.path, N_CTX, Mode(ubatch_size=ubatch_size), with_plan(plan)) as context:
        got = read(context, TOKENS[:800], 400)
    assert largest_difference(got, reference(STREAM, LENGTH)[:800]) <= BOUND


@pytest.mark.parametrize("size", [1, 7, 8, 130])
def test_results_do_not_depend_on_the_batches(model: TinyModel, reference: Reference, size: int) -> None:
    with opened(model.path, N_CTX, prepare=with_plan(streaming_plan(STREAM))) as context:
        got = read(context, TOKENS[:700], size)
    assert largest_difference(got, reference(STREAM, LENGTH)[:700]) <= BOUND


@pytest.mark.parametrize(
    "mode",
    [
        Mode(flash_attention=True),
        Mode(kv_type=llama_cpp.GGML_TYPE_F16),
        Mode(kv_type=llama_cpp.GGML_TYPE_F16, flash_attention=True),
        Mode(kv_type=llama_cpp.GGML_TYPE_Q8_0, v_type=llama_cpp.GGML_TYPE_F16),
        Mode(kv_type=llama_cpp.GGML_TYPE_Q8_0, flash_attention=True),
    ],
    ids=["f32-flash", "f16", "f16-flash", "q8_0-keys", "q8_0-flash"],
)
@pytest.mark.parametrize("arch", ["llama", "qwen3"])
def test_other_modes_err_at_most_twice_as_much_as_without_a_plan(
    arch: Architecture, mode: Mode, tmp_path: Path
) -> None:
    """Heads of 64 numbers, which llama.cpp turns by a Hadamard matrix where it quantizes keys."""
    wide = write_tiny_model(
        tmp_path / "wide.gguf",
        arch=arch,
        n_layer=N_LAYER,
        head_dim=64,
        n_embd=128,
        n_head=2,
        n_head_kv=1,
        query_deviation=1.0,
        seed=103,
    )
    tokens = TOKENS[:900]
    stream = Stream((64,) * N_LAYER, 4, tuple(4.0 ** (np.arange(32) / 31)))

    def error(got: np.ndarray, want: np.ndarray) -> float:
        return float(np.sqrt(np.mean((got - want) ** 2)))

    plain = reference_logits(wide, tokens[:300], plain_positions(wide, 300))
    # ubatches of a block, as a stream is cut into: flash attention computes few rows otherwise than many
    as_a_stream = replace(mode, ubatch_size=stream.block)
    without = error(opened_logits(wide.path, tokens[:300], as_a_stream), plain)
    assert without > 0.0
    with opened(wide.path, N_CTX, mode, with_plan(streaming_plan(stream))) as context:
        got = read(context, tokens, 300)
    want = streaming_logits(wide, tokens, stream)
    assert error(got, want) <= 2 * without
    assert error(got[600:], want[600:]) <= 2 * error(got[:300], want[:300]), "it does not grow"


@pytest.mark.parametrize("kv_type", [llama_cpp.GGML_TYPE_F32, llama_cpp.GGML_TYPE_F16], ids=["f32", "f16"])
def test_errors_do_not_grow_along_the_stream(model: TinyModel, reference: Reference, kv_type: int) -> None:
    """Inside, positions begin anew every four windows, and the window's keys are turned back: ten times."""
    mode = Mode(kv_type=kv_type)
    with opened(model.path, N_CTX, mode, with_plan(streaming_plan(STREAM))) as context:
        got = read(context, TOKENS, N_CTX)
        assert llama_cpp.llama_memory_seq_pos_max(context.memory, 0) == LENGTH - 1
    squared = np.mean((got - reference(STREAM, LENGTH)) ** 2, axis=1)
    tenths = np.sqrt(np.mean(squared.reshape(10, TARGET_LENGTH), axis=1))
    assert tenths[1:].max() <= 1.5 * tenths[1:].mean()  # none stands out
    assert tenths[5:].mean() <= 1.2 * tenths[1:5].mean()  # nor do the later ones


@pytest.mark.parametrize("ubatch_size", [1, 48, 512])
def test_memory_is_that_of_the_window(model: TinyModel, ubatch_size: int) -> None:
    """Cells by the library's log; the text's length is nowhere in them."""
    n_ctx = 10 * TARGET_LENGTH
    with (
        native_log.fresh() as log,
        opened(model.path, n_ctx, Mode(ubatch_size=ubatch_size), with_plan(streaming_plan(STREAM))),
    ):
        caches = logged_caches(log.lines())
    cells = -(-(64 + 4 + ubatch_size) // 256) * 256
    assert caches == [Cache(cells, N_LAYER, 1)]


def test_until_the_window_is_full_no_bit_differs_from_factors_alone(model: TinyModel) -> None:
    """64 tokens and 4 sinks."""
    factors_alone = streaming_plan(STREAM, streaming=False)
    with opened(model.path, N_CTX, prepare=with_plan(factors_alone)) as context:
        plain = context.decode(TOKENS[:64])
    with opened(model.path, N_CTX, prepare=with_plan(streaming_plan(STREAM))) as context:
        got = np.concatenate([context.decode(TOKENS[:64])])
    assert largest_difference(got, plain) <= 1e-4  # ubatches are cut at blocks: other sums, to rounding
