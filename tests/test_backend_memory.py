"""The memory estimate against the sizes that the library itself logs."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ropewalk.backend import context as context_module
from ropewalk.backend import context_plan, host, library, native_log
from ropewalk.backend.context import Context, ContextParams
from ropewalk.backend.errors import MemoryShortageError
from ropewalk.backend.memory import MemoryNeed, cache_cells, check_fits
from ropewalk.backend.model import Model
from ropewalk_plan import ContextPlan, ScheduleStep
from tiny_models import write_tiny_model
from tiny_other_memories import write_tiny_lfm2

_MEBIBYTE = 2**20
_N_LAYER = 3


def _logged_mebibytes(pattern: str) -> list[float]:
    found = [re.search(pattern + r" *= *([\d.]+) MiB", line) for line in native_log.LOG.lines()]
    sizes = [float(match[1]) for match in found if match]
    assert sizes, f"the library logged no {pattern}"
    return sizes


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    path = tmp_path_factory.mktemp("memory") / "m.gguf"
    write_tiny_model(path, n_layer=_N_LAYER, n_embd=256, n_head=8, n_head_kv=4, head_dim=32, n_ff=512)
    model = Model.load(path)
    yield model
    model.close()


def stream(window: int, sinks: int) -> ContextPlan:
    """A window in every layer, with the plain model's factors."""
    step = ScheduleStep(256, (1.0,) * 16)
    windows = (window,) * _N_LAYER
    return ContextPlan("", 64, 256, schedule=(step,), windows=windows, sinks=sinks, streaming=True)


PLANS = {
    "plain": None,
    "one-window": ContextPlan("", 64, 256, windows=(1000,) * _N_LAYER, sinks=4),
    "two-windows": ContextPlan("", 64, 256, windows=(500, 2000, 2000), sinks=4),
    "one-dense-layer": ContextPlan("", 64, 256, windows=(500, 500, 0)),
    "wider-than-the-context": ContextPlan("", 64, 256, windows=(500, 100_000, 0)),
    "stream": stream(2000, 4),
}


@pytest.mark.usefixtures("patched_library")
@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize(
    ("flash_attention", "kv_type"), [("off", "f32"), ("off", "f16"), ("on", "f16"), ("on", "q8_0")]
)
def test_the_estimate_is_near_what_the_library_allocates(
    model: Model, plan: str, flash_attention: context_module.FlashAttention, kv_type: str
) -> None:
    model.set_plan(PLANS[plan])
    params = ContextParams(n_ctx=8192, threads=1, flash_attention=flash_attention, kv_type=kv_type)
    context = Context(model, params)
    try:
        caches = sum(_logged_mebibytes("KV buffer size"))  # of each cache
        computing = _logged_mebibytes("compute buffer size")[-1]
        need = context_module._need(model, params)
        estimated = (need.total(8192) - need.weights) / _MEBIBYTE
        told = model.kv_size(context_module._native_params(model, params))
    finally:
        context.close()
        model.set_plan(None)

    assert 0.9 * (caches + computing) <= estimated <= 1.3 * (caches + computing) + 4
    assert told is not None
    assert told / _MEBIBYTE == pytest.approx(caches, abs=0.02)  # the log rounds each


@pytest.mark.usefixtures("patched_library")
def test_where_every_layer_has_a_window_memory_does_not_grow(model: Model) -> None:
    model.set_plan(PLANS["stream"])
    try:
        need = context_module._need(model, ContextParams(n_ctx=512))
        sizes = [need.total(n_ctx) for n_ctx in (256, 2048, 4096, 100_000_000)]
        largest = [need.largest_n_ctx(free) for free in (sizes[2], sizes[2] - 1, sizes[0] - 1)]
    finally:
        model.set_plan(None)

    assert sizes[0] < sizes[1] < sizes[2] == sizes[3]
    assert largest[0] == 2**31 - 256
    assert 2048 <= largest[1] < 4096
    assert largest[2] == 0


@pytest.mark.usefixtures("patched_library")
def test_windows_raise_the_largest_context_that_fits(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two layers of three keep 500 tokens: a context almost three times as long takes the same memory."""
    params = ContextParams(n_ctx=1_000_000_000, flash_attention="on", n_ubatch=16, n_batch=16)
    monkeypatch.setattr(host, "available_memory", lambda: 100_000_000)
    largest = []
    for plan in (PLANS["plain"], PLANS["one-dense-layer"]):
        model.set_plan(plan)
        with pytest.raises(MemoryShortageError, match="at most") as caught:
            context_module.check_memory(model, params)
        assert ("or narrower windows" in str(caught.value)) is (plan is not None)
        largest.append(caught.value.largest_n_ctx)
        context_module.check_memory(model, dataclasses.replace(params, n_ctx=largest[-1]))
    model.set_plan(None)

    assert 2.5 * largest[0] < largest[1] < 3.1 * largest[0]


def test_a_memory_whose_size_is_not_told(tmp_path: Path) -> None:
    """The library says why; nobody must take that for the reason of what is refused later."""
    model = Model.load(write_tiny_lfm2(tmp_path / "m.gguf"))
    try:
        params = context_module._native_params(model, ContextParams(n_ctx=512))
        assert model.kv_size(params) is None
        assert context_plan.last_error() == ""
    finally:
        model.close()


def test_what_a_stock_build_does_not_say_is_computed(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    params = ContextParams(n_ctx=8192, kv_type="q8_0")
    told = context_module._need(model, params).total(8192)
    monkeypatch.setattr(library, "is_patched", lambda: False)

    assert context_module._need(model, params).total(8192) == told


@pytest.mark.parametrize(
    ("windows", "sinks", "cells"),
    [
        ((), 0, (1024,)),
        ((0, 0), 0, (1024,)),
        ((100, 100), 4, (256,)),
        ((100, 0, 300), 4, (1024, 256, 512)),
        ((2000,), 4, (1024,)),
    ],
)
def test_cells_of_the_caches(windows: tuple[int, ...], sinks: int, cells: tuple[int, ...]) -> None:
    assert cache_cells(1000, windows, sinks, 64) == cells


def linear(weights: int, per_token: float, fixed: int = 0) -> MemoryNeed:
    return MemoryNeed(weights=weights, fixed=fixed, of_context=lambda n_ctx: round(per_token * n_ctx))


def test_the_largest_context_is_the_largest() -> None:
    need = linear(1_000_000, 1234.5, fixed=50_000)
    free = 5_000_000

    largest = need.largest_n_ctx(free)

    assert need.total(largest) <= free < need.total(largest + 256)


def test_a_refusal_has_its_numbers() -> None:
    need = linear(4_000_000_000, 100_000)

    check_fits(need, 10_000, 5_000_000_000)
    with pytest.raises(
        MemoryShortageError,
        match=r"20,000 tokens needs 6\.0 GB .*4\.0 GB of it.*5\.0 GB are free: .*at most 9,984 tokens",
    ) as caught:
        check_fits(need, 20_000, 5_000_000_000)
    assert (caught.value.needed, caught.value.free, caught.value.largest_n_ctx) == (
        6_000_000_000,
        5_000_000_000,
        9_984,
    )


def test_weights_that_do_not_fit_are_told_apart() -> None:
    with pytest.raises(MemoryShortageError, match="a smaller model") as caught:
        check_fits(linear(10**10, 1), 1, 10**9)
    assert caught.value.largest_n_ctx == 0


def test_a_context_is_refused_before_it_is_made(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "available_memory", lambda: 20_000_000)
    model = Model.load(tiny_llama)
    try:
        with pytest.raises(MemoryShortageError) as caught:
            Context(model, ContextParams(n_ctx=1_000_000))
        fitting = Context(model, ContextParams(n_ctx=caught.value.largest_n_ctx))
        fitting.close()
    finally:
        model.close()
    assert caught.value.largest_n_ctx > 0
