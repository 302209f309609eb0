"""Windows per layer with sinks: every logit against the float64 oracle, far past the windows and past 4 L.

Bound: with F32 weights, an F32 cache and flash attention off, 1e-3, as for every method. In other modes the
root mean square of the errors is at most twice that without a plan in the same mode.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import llama_cpp
import numpy as np
import pytest

from library_logits import Mode
from reference_transformer import Float64
from tiny_models import Architecture, TinyModel, write_tiny_model
from windowed_contexts import (
    TRAIN_LENGTH,
    largest_difference,
    opened,
    opened_logits,
    random_tokens,
    windows_plan,
    with_plan,
)
from windowed_memory import WindowedMemory, windowed_logits

pytestmark = pytest.mark.usefixtures("patched_library")

BOUND = 1e-3
N_TOKENS = 600
N_LAYER = 4
WINDOWS = {
    "mixed": (16, 0, 33, 16),
    "all": (16, 24, 33, 16),
    "one": (0, 0, 16, 0),
    "all-but-one": (16, 16, 0, 16),
    "single-token": (1, 0, 2, 0),
    "wider-than-the-text": (1000, 0, 2000, 1000),
}


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    arch: Architecture = request.param
    path = tmp_path_factory.mktemp("windows") / f"{arch}.gguf"
    return write_tiny_model(path, arch=arch, n_layer=N_LAYER, train_length=TRAIN_LENGTH, seed=31)


TOKENS = random_tokens(N_TOKENS, seed=32)


Reference = Callable[[tuple[int, ...], int], Float64]
"""(windows, sinks) to the oracle's logits of all tokens."""


@pytest.fixture(scope="module")
def reference(model: TinyModel) -> Reference:
    """Each computed once."""
    return cache(lambda windows, sinks: windowed_logits(model, TOKENS, windows, sinks))


@pytest.mark.parametrize("sinks", [0, 4])
@pytest.mark.parametrize("name", WINDOWS)
def test_one_batch(model: TinyModel, reference: Reference, name: str, sinks: int) -> None:
    want = reference(WINDOWS[name], sinks)
    with opened(model.path, N_TOKENS, prepare=with_plan(windows_plan(WINDOWS[name], sinks))) as context:
        got = context.decode(TOKENS)
    assert largest_difference(got, want) <= BOUND
    plain = reference((0,) * N_LAYER, 0)
    if name != "wider-than-the-text":  # windows that were ignored would be far off
        assert largest_difference(plain, want) > 100 * BOUND


@pytest.mark.parametrize("ubatch_size", [1, 3, 48])
@pytest.mark.parametrize("name", ["mixed", "all"])
def test_ubatches(model: TinyModel, reference: Reference, name: str, ubatch_size: int) -> None:
    mode = Mode(ubatch_size=ubatch_size)
    plan = windows_plan(WINDOWS[name], 4)
    with opened(model.path, N_TOKENS, mode, prepare=with_plan(plan)) as context:
        got = context.decode(TOKENS)
    assert largest_difference(got, reference(WINDOWS[name], 4)) <= BOUND


@pytest.mark.parametrize("sinks", [0, 4])
@pytest.mark.parametrize("name", ["mixed", "all"])
def test_token_by_token(model: TinyModel, reference: Reference, name: str, sinks: int) -> None:
    plan = windows_plan(WINDOWS[name], sinks)
    with opened(model.path, N_TOKENS, Mode(ubatch_size=48), prepare=with_plan(plan)) as context:
        parts = [context.decode(TOKENS[:100])]
        parts += [context.decode([token], start) for start, token in enumerate(TOKENS[100:], 100)]
    assert largest_difference(np.concatenate(parts), reference(WINDOWS[name], sinks)) <= BOUND


def test_batches_of_all_sizes(model: TinyModel, reference: Reference) -> None:
    """Sizes around the windows and the ubatch, so that caches wrap at every offset."""
    sizes = np.random.default_rng(33).choice([1, 2, 15, 16, 17, 31, 47, 48, 49, 95], 40)
    plan = windows_plan(WINDOWS["mixed"], 3)
    parts, start = [], 0
    with opened(model.path, N_TOKENS, Mode(ubatch_size=48), prepare=with_plan(plan)) as context:
        for size in sizes:
            part = TOKENS[start : start + int(size)]
            if part:
                parts.append(context.decode(part, start))
            start += len(part)
    assert largest_difference(np.concatenate(parts), reference(WINDOWS["mixed"], 3)[:start]) <= BOUND
    assert start > 500


@pytest.mark.parametrize(
    "mode",
    [
        Mode(kv_type=llama_cpp.GGML_TYPE_F32, flash_attention=True),
        Mode(kv_type=llama_cpp.GGML_TYPE_F16),
        Mode(kv_type=llama_cpp.GGML_TYPE_F16, flash_attention=True, ubatch_size=64),
        Mode(kv_type=llama_cpp.GGML_TYPE_Q8_0, v_type=llama_cpp.GGML_TYPE_F16),
        Mode(kv_type=llama_cpp.GGML_TYPE_Q8_0, flash_attention=True, ubatch_size=48),
        Mode(kv_type=llama_cpp.GGML_TYPE_Q4_0, flash_attention=True),
    ],
    ids=["f32-flash", "f16", "f16-flash", "q8_0-keys", "q8_0-flash", "q4_0-flash"],
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
        seed=34,
    )
    tokens = TOKENS[:400]

    def error(got: np.ndarray, want: np.ndarray) -> float:
        return float(np.sqrt(np.mean((got - want) ** 2)))

    without = error(opened_logits(wide.path, tokens, mode), windowed_logits(wide, tokens, (0,) * N_LAYER))
    assert without > 0.0
    for name in ("mixed", "all"):
        with opened(wide.path, 400, mode, prepare=with_plan(windows_plan(WINDOWS[name], 4))) as context:
            got = context.decode(tokens)
        assert error(got, windowed_logits(wide, tokens, WINDOWS[name], 4)) <= 2 * without, name


@pytest.mark.parametrize("flash", [False, True], ids=["", "flash"])
def test_shifting_quantized_keys_adds_no_growing_error(flash: bool, tmp_path: Path) -> None:
    """Three times: the window's keys are new each time, the sinks are never moved."""
    wide = write_tiny_model(
        tmp_path / "wide.gguf",
        n_layer=3,
        head_dim=64,
        n_embd=128,
        n_head=2,
        n_head_kv=1,
        query_deviation=1.0,
        seed=35,
    )
    values = llama_cpp.GGML_TYPE_Q8_0 if flash else llama_cpp.GGML_TYPE_F16
    mode = Mode(llama_cpp.GGML_TYPE_Q8_0, flash, ubatch_size=48, v_type=values)
    windows, sinks = (16, 0, 33), 4
    oracle = WindowedMemory(wide, windows, sinks)
    errors, start = [], 0
    with opened(wide.path, 1024, mode, with_plan(windows_plan(windows, sinks))) as context:
        for i in range(4):
            part = random_tokens(200, seed=36 + i)
            difference = context.decode(part, start) - oracle.read(part, start)
            errors.append(float(np.sqrt(np.mean(difference**2))))
            assert llama_cpp.llama_memory_seq_rm(context.memory, 0, sinks, sinks + 100)
            llama_cpp.llama_memory_seq_add(context.memory, 0, sinks + 100, -1, -100)
            oracle.remove(0, sinks, sinks + 100)
            oracle.shift(0, sinks + 100, -100)
            start += 100
    assert max(errors[1:]) <= 1.5 * errors[0], errors
