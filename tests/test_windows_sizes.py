"""How large the caches of windowed layers are: by the library's log, by the formula, by the C function."""

from __future__ import annotations

import ctypes
from collections import Counter

import llama_cpp
import pytest

from library_logits import Mode
from ropewalk.backend import context_plan, native_log
from tiny_models import TinyModel, write_tiny_model
from windowed_contexts import (
    TRAIN_LENGTH,
    Cache,
    logged_caches,
    opened,
    windows_plan,
    with_plan,
)

pytestmark = pytest.mark.usefixtures("patched_library")

MIXED = (16, 0, 1000, 16)
ROW_BYTES = {
    llama_cpp.GGML_TYPE_F32: 2 * 64 * 4,
    llama_cpp.GGML_TYPE_F16: 2 * 64 * 2,
    llama_cpp.GGML_TYPE_Q8_0: 2 * 64 // 32 * 34,
}
"""Of the keys of one cell, or its values: 2 heads of 64 numbers."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    path = tmp_path_factory.mktemp("sizes") / "model.gguf"
    return write_tiny_model(path, n_layer=4, train_length=TRAIN_LENGTH, n_embd=128, head_dim=64, n_head=2)


def caches(model: TinyModel, windows: tuple[int, ...], sinks: int, n_ctx: int, mode: Mode) -> list[Cache]:
    """What the library logs when it makes such a context."""
    plan = windows_plan(windows, sinks) if any(windows) else None
    with native_log.fresh() as log, opened(model.path, n_ctx, mode, prepare=with_plan(plan)):
        return logged_caches(log.lines())


def formula(windows: tuple[int, ...], sinks: int, n_ctx: int, mode: Mode) -> list[Cache]:
    """One cache per distinct window, of as many cells as its sequences and one ubatch need, in 256s."""
    per_stream = n_ctx if mode.kv_unified else n_ctx // mode.n_seq_max
    sequences = mode.n_seq_max if mode.kv_unified else 1
    found = []
    for window, layers in Counter(windows).items():
        cells = per_stream
        if window:
            cells = min(per_stream, (window + sinks) * sequences + mode.ubatch_size)
        found.append(Cache(-(-cells // 256) * 256, layers, 1 if mode.kv_unified else mode.n_seq_max))
    return sorted(found)


@pytest.mark.parametrize(
    ("windows", "sinks", "n_ctx", "mode"),
    [
        (MIXED, 0, 4096, Mode(ubatch_size=240)),
        (MIXED, 4, 4096, Mode(ubatch_size=240)),
        (MIXED, 1, 4096, Mode(ubatch_size=1)),
        ((16, 16, 16, 16), 4, 4096, Mode(ubatch_size=48)),
        ((5000, 16, 4096, 0), 4, 4096, Mode(ubatch_size=48)),
        (MIXED, 4, 8192, Mode(ubatch_size=48, n_seq_max=4, kv_unified=True)),
        (MIXED, 4, 8192, Mode(ubatch_size=48, n_seq_max=4)),
    ],
)
def test_one_cache_for_each_window_of_the_formulas_size(
    model: TinyModel, windows: tuple[int, ...], sinks: int, n_ctx: int, mode: Mode
) -> None:
    assert caches(model, windows, sinks, n_ctx, mode) == formula(windows, sinks, n_ctx, mode)


def test_memory_shrinks(model: TinyModel) -> None:
    """Three layers of four at 256 cells instead of 16,384."""
    mode = Mode(ubatch_size=64)
    windowed = sum(c.cells * c.layers for c in caches(model, (16, 0, 100, 16), 4, 16384, mode))
    dense = sum(c.cells * c.layers for c in caches(model, (0, 0, 0, 0), 0, 16384, mode))
    assert windowed == 16384 + 3 * 256
    assert dense == 4 * 16384


def kv_size(handle: llama_cpp.llama_model_p, parameters: llama_cpp.llama_context_params) -> int:
    """The C function."""
    function = llama_cpp.llama_cpp._lib.llama_context_plan_kv_size
    function.restype = ctypes.c_int64
    function.argtypes = [ctypes.c_void_p, llama_cpp.llama_context_params]
    return int(function(handle, parameters))


@pytest.mark.parametrize(
    "kv_type", [llama_cpp.GGML_TYPE_F32, llama_cpp.GGML_TYPE_F16, llama_cpp.GGML_TYPE_Q8_0]
)
@pytest.mark.parametrize("windows", [(0, 0, 0, 0), MIXED, (16, 16, 24, 16)])
@pytest.mark.parametrize(("n_seq_max", "unified"), [(1, False), (3, False), (3, True)])
def test_the_library_tells_beforehand_what_a_context_will_hold(
    model: TinyModel, windows: tuple[int, ...], kv_type: int, n_seq_max: int, unified: bool
) -> None:
    row = ROW_BYTES[kv_type]
    mode = Mode(kv_type, flash_attention=True, ubatch_size=32, n_seq_max=n_seq_max, kv_unified=unified)
    held = sum(c.cells * c.layers * c.streams for c in caches(model, windows, 4, 3 * 2048, mode))
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx = parameters.n_batch = 3 * 2048
    parameters.n_ubatch = 32
    parameters.n_seq_max = n_seq_max
    parameters.kv_unified = unified
    parameters.type_k = parameters.type_v = kv_type
    parameters.flash_attn_type = 1
    plan = windows_plan(windows, 4) if any(windows) else None
    with opened(model.path, 256, prepare=with_plan(plan)) as context:
        assert kv_size(context.model, parameters) == held * 2 * row
    assert context_plan.last_error() == ""
