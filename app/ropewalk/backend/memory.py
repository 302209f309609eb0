"""How much memory a model with a context takes, and the refusal when that is more than there is."""

from __future__ import annotations

from dataclasses import dataclass

from ropewalk.backend.errors import MemoryShortageError

_F32, _F16 = 4, 2
_GIGABYTE = 1e9
_CONTEXT_STEP = 256
"""llama.cpp rounds context lengths up to a multiple of this."""


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
        per_token: KV cache and working memory for each token of context.
    """

    weights: int
    fixed: int
    per_token: float

    def total(self, n_ctx: int) -> int:
        """Bytes for a context of `n_ctx` tokens."""
        return self.weights + self.fixed + round(self.per_token * n_ctx)

    def largest_n_ctx(self, free: int) -> int:
        """The longest context that fits into `free` bytes, in steps of 256 tokens."""
        tokens = int((free - self.weights - self.fixed) / self.per_token)
        return max(0, tokens - tokens % _CONTEXT_STEP)


def memory_need(
    shape: ModelShape,
    *,
    weights: int,
    key_bytes: float,
    value_bytes: float,
    n_ubatch: int,
    n_outputs: int,
    flash_attention: bool,
) -> MemoryNeed:
    """Estimates what a dense transformer takes in llama.cpp.

    Without flash attention a layer's scores are held whole, `n_head * n_ctx * n_ubatch` F32 numbers:
    at long contexts most of the working memory. Checked against llama.cpp's own figures for
    SmolLM2-135M at 1,024 and 8,192 tokens: within 8 MB of the compute buffer.

    Args:
        shape: the model.
        weights: bytes of the weights.
        key_bytes: bytes per number of a cached key.
        value_bytes: bytes per number of a cached value.
        n_ubatch: tokens computed at once.
        n_outputs: rows of logits kept at once.
        flash_attention: whether it is on.
    """
    keys = shape.n_kv_heads * shape.key_length * key_bytes
    values = shape.n_kv_heads * shape.value_length * value_bytes
    scores_and_mask = _F16 if flash_attention else _F32 * (shape.n_head + 1)
    activations = _F32 * n_ubatch * (4 * shape.n_embd + 3 * shape.n_ff)
    logits = _F32 * shape.n_vocab * n_outputs
    return MemoryNeed(
        weights=weights,
        fixed=activations + 2 * logits,
        per_token=keys + values + scores_and_mask * n_ubatch,
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
    remedy = (
        f"ask for a context of at most {largest:,} tokens, or a smaller KV type (q8_0)"
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


def _gigabytes(n_bytes: int) -> str:
    return f"{n_bytes / _GIGABYTE:.1f} GB"
