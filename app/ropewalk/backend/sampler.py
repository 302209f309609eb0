"""Choosing the next token from logits, by llama.cpp's own samplers."""

from __future__ import annotations

from types import TracebackType

from llama_cpp import llama_cpp as capi

from ropewalk.backend.context import Context


class Sampler:
    """A chain of samplers; a context manager, which frees it."""

    def __init__(self, *, temperature: float, top_k: int, top_p: float, min_p: float, seed: int) -> None:
        """Greedy at temperature 0, else top-k, top-p, min-p, temperature and a seeded draw, in this order.

        Args:
            temperature: 0 for the most probable token always.
            top_k: draw among the k most probable; 0 for all.
            top_p: draw among the fewest that make up this probability; 1 for all.
            min_p: leave out what is less probable than this share of the most probable; 0 for none.
            seed: of the random numbers, 0 to 2^32 - 1.
        """
        self._chain = capi.llama_sampler_chain_init(capi.llama_sampler_chain_default_params())
        if temperature == 0.0:
            self._add(capi.llama_sampler_init_greedy())
            return
        if top_k > 0:
            self._add(capi.llama_sampler_init_top_k(top_k))
        if top_p < 1.0:
            self._add(capi.llama_sampler_init_top_p(top_p, 1))
        if min_p > 0.0:
            self._add(capi.llama_sampler_init_min_p(min_p, 1))
        self._add(capi.llama_sampler_init_temp(temperature))
        self._add(capi.llama_sampler_init_dist(seed))

    def _add(self, sampler: int) -> None:
        capi.llama_sampler_chain_add(self._chain, sampler)

    def sample(self, context: Context, row: int = -1) -> int:
        """The next token, by one draw; what follows it is drawn next.

        Args:
            context: with logits.
            row: of those of its last decode; the last one by default.
        """
        return int(capi.llama_sampler_sample(self._chain, context.handle, row))

    def __enter__(self) -> Sampler:
        """The sampler itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Frees the chain and its samplers."""
        capi.llama_sampler_free(self._chain)
