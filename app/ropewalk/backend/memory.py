"""How much memory a context takes, by a formula: where the library cannot be asked, or need not be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

_F32, _F16 = 4, 2
_CONTEXT_STEP = 256
"""llama.cpp rounds context lengths, and the cells of a KV cache, up to a multiple of this."""


@dataclass(frozen=True)
class ModelShape:
    """The numbers of a model that decide how much memory its context takes.

    Attributes:
        n_kv_heads: KV heads of all layers together.
        key_length: numbers per head in a key; `value_length` likewise.
    """

    n_embd: int
    n_ff: int
    n_head: int
    n_kv_heads: int
    key_length: int
    value_length: int
    n_vocab: int


@dataclass(frozen=True)
class MemoryNeed:
    """What a context takes, in bytes by its length in tokens; neither falls as that grows.

    Attributes:
        cache_bytes: keys and values.
        working: working memory.
        windowed: whether layers have windows of a plan.
    """

    cache_bytes: Callable[[int], int]
    working: Callable[[int], int]
    windowed: bool = False


def cache_cells(n_ctx: int, windows: Sequence[int], sinks: int, n_ubatch: int) -> tuple[int, ...]:
    """Cells of each KV cache: layers of equal window share one, as wide as that, the sinks and a micro-batch.

    Args:
        n_ctx: tokens of context.
        windows: of the layers, 0 for all tokens; empty for layers without windows.
        sinks: tokens that windowed layers keep besides.
        n_ubatch: tokens computed at once.
    """
    return tuple(
        _rounded_up(min(n_ctx, window + sinks + n_ubatch) if window else n_ctx)
        for window in sorted(set(windows or (0,)))
    )


def full_cache_bytes(shape: ModelShape, n_ctx: int, bytes_per_number: float) -> int:
    """Keys and values of a dense transformer's layers without windows, where the library does not say."""
    numbers = shape.n_kv_heads * (shape.key_length + shape.value_length)
    return round(numbers * bytes_per_number * _rounded_up(n_ctx))


def memory_need(
    shape: ModelShape,
    *,
    cache_bytes: Callable[[int], int],
    cells: Callable[[int], Sequence[int]],
    n_ubatch: int,
    n_outputs: int,
    flash_attention: bool,
    windowed: bool = False,
) -> MemoryNeed:
    """Estimates what a context on a dense transformer takes in llama.cpp.

    Without flash attention a layer's scores are held whole, `n_head * cells * n_ubatch` F32 numbers: at long
    contexts most of the working memory. Layers follow each other, so that of the widest cache counts; but
    every cache has a mask. Checked against llama.cpp's own figures for SmolLM2-135M at 1,024 and 8,192 tokens
    without windows: within 8 MB of the compute buffer.

    Args:
        shape: the model.
        cache_bytes: bytes of the keys and values of a context of so many tokens.
        cells: cells of each KV cache of such a context.
        n_ubatch: tokens computed at once.
        n_outputs: rows of logits kept at once.
        flash_attention: whether it is on.
        windowed: whether layers have windows of a plan.
    """
    activations = _F32 * n_ubatch * (4 * shape.n_embd + 3 * shape.n_ff)
    logits = _F32 * shape.n_vocab * n_outputs

    def working(n_ctx: int) -> int:
        caches = cells(n_ctx)
        scores = 0 if flash_attention else _F32 * shape.n_head * max(caches)
        masks = (_F16 if flash_attention else _F32) * sum(caches)
        return activations + 2 * logits + n_ubatch * (scores + masks)

    return MemoryNeed(cache_bytes=cache_bytes, working=working, windowed=windowed)


def _rounded_up(tokens: int) -> int:
    return -(-tokens // _CONTEXT_STEP) * _CONTEXT_STEP
