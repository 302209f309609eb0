"""How much memory a model with a context takes, and the refusal when that is more than there is."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ropewalk.backend.errors import MemoryShortageError

_F32, _F16 = 4, 2
_GIGABYTE = 1e9
_CONTEXT_STEP = 256
"""llama.cpp rounds context lengths, and the cells of a KV cache, up to a multiple of this."""

_POSITIONS = 2**31


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
    """Bytes by what they are for.

    Attributes:
        weights: the model.
        fixed: working memory that does not depend on the context length.
        of_context: KV cache and working memory of a context of so many tokens; it never falls as they grow,
            and where every layer has a window it does not rise for ever either.
        windowed: whether layers have windows of a plan.
    """

    weights: int
    fixed: int
    of_context: Callable[[int], int]
    windowed: bool = False

    def total(self, n_ctx: int) -> int:
        """Bytes for a context of `n_ctx` tokens."""
        return self.weights + self.fixed + self.of_context(n_ctx)

    def largest_n_ctx(self, free: int) -> int:
        """The longest context that fits into `free` bytes, in steps of 256 tokens; at most all positions."""
        sizes = range(_CONTEXT_STEP, _POSITIONS, _CONTEXT_STEP)
        n_fitting = bisect_right(sizes, free, key=self.total)
        return sizes[n_fitting - 1] if n_fitting else 0


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
    weights: int,
    cache_bytes: Callable[[int], int],
    cells: Callable[[int], Sequence[int]],
    n_ubatch: int,
    n_outputs: int,
    flash_attention: bool,
    windowed: bool = False,
) -> MemoryNeed:
    """Estimates what a dense transformer takes in llama.cpp.

    Without flash attention a layer's scores are held whole, `n_head * cells * n_ubatch` F32 numbers: at long
    contexts most of the working memory. Layers follow each other, so that of the widest cache counts; but
    every cache has a mask. Checked against llama.cpp's own figures for SmolLM2-135M at 1,024 and 8,192 tokens
    without windows: within 8 MB of the compute buffer.

    Args:
        shape: the model.
        weights: bytes of the weights.
        cache_bytes: bytes of the keys and values of a context of so many tokens.
        cells: cells of each KV cache of such a context.
        n_ubatch: tokens computed at once.
        n_outputs: rows of logits kept at once.
        flash_attention: whether it is on.
        windowed: whether layers have windows of a plan.
    """
    activations = _F32 * n_ubatch * (4 * shape.n_embd + 3 * shape.n_ff)
    logits = _F32 * shape.n_vocab * n_outputs

    def of_context(n_ctx: int) -> int:
        caches = cells(n_ctx)
        scores = 0 if flash_attention else _F32 * shape.n_head * max(caches)
        masks = (_F16 if flash_attention else _F32) * sum(caches)
        return cache_bytes(n_ctx) + n_ubatch * (scores + masks)

    return MemoryNeed(
        weights=weights, fixed=activations + 2 * logits, of_context=of_context, windowed=windowed
    )


def check_fits(need: MemoryNeed, n_ctx: int, free: int) -> None:
    """Refuses what would not fit, before anything is allocated.

    Raises:
        MemoryShortageError: with the largest context that would fit.
    """
    needed = need.total(n_ctx)
    if needed <= free:
        return
    largest = need.largest_n_ctx(free)
    others = (
        "a smaller KV type (q8_0), or narrower windows" if need.windowed else "or a smaller KV type (q8_0)"
    )
    remedy = (
        f"ask for a context of at most {largest:,} tokens, {others}"
        if largest
        else "a smaller model, or one with smaller weights, is needed"
    )
    raise MemoryShortageError(
        f"a context of {n_ctx:,} tokens needs {_gigabytes(needed)} of memory "
        f"({_gigabytes(need.weights)} of it for the weights), and {_gigabytes(free)} are free: {remedy}",
        needed=needed,
        free=free,
        largest_n_ctx=largest,
    )


def _rounded_up(tokens: int) -> int:
    return -(-tokens // _CONTEXT_STEP) * _CONTEXT_STEP


def _gigabytes(n_bytes: int) -> str:
    return f"{n_bytes / _GIGABYTE:.1f} GB"
