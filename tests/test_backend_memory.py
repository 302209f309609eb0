"""The memory estimate against the sizes that the library itself logs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ropewalk.backend import context as context_module
from ropewalk.backend import host, native_log
from ropewalk.backend.context import Context, ContextParams
from ropewalk.backend.errors import MemoryShortageError
from ropewalk.backend.memory import MemoryNeed, check_fits
from ropewalk.backend.model import Model
from tiny_models import write_tiny_model

_MEBIBYTE = 2**20


def _logged_mebibytes(pattern: str) -> float:
    found = [re.search(pattern + r" *= *([\d.]+) MiB", line) for line in native_log.LOG.lines()]
    sizes = [float(match[1]) for match in found if match]
    assert sizes, f"the library logged no {pattern}"
    return sizes[-1]


@pytest.mark.parametrize(("flash_attention", "kv_type"), [("off", "f16"), ("on", "f16"), ("on", "q8_0")])
def test_the_estimate_is_near_what_the_library_allocates(
    tmp_path: Path, flash_attention: context_module.FlashAttention, kv_type: str
) -> None:
    path = write_tiny_model(
        tmp_path / "m.gguf", n_layer=3, n_embd=256, n_head=8, n_head_kv=4, head_dim=32, n_ff=512
    ).path
    model = Model.load(path)
    params = ContextParams(n_ctx=8192, threads=1, flash_attention=flash_attention, kv_type=kv_type)
    context = Context(model, params)
    try:
        allocated = _logged_mebibytes("KV buffer size") + _logged_mebibytes("compute buffer size")
        need = context_module._need(model, params)
    finally:
        context.close()
        model.close()

    estimated = (need.total(8192) - need.weights) / _MEBIBYTE
    assert 0.9 * allocated <= estimated <= 1.3 * allocated + 4


def test_the_largest_context_is_the_largest() -> None:
    need = MemoryNeed(weights=1_000_000, fixed=50_000, per_token=1234.5)
    free = 5_000_000

    largest = need.largest_n_ctx(free)

    assert need.total(largest) <= free < need.total(largest + 256)


def test_a_refusal_has_its_numbers() -> None:
    need = MemoryNeed(weights=4_000_000_000, fixed=0, per_token=100_000)

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
        check_fits(MemoryNeed(weights=10**10, fixed=0, per_token=1), 1, 10**9)
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
