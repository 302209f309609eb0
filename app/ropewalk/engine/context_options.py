"""The contexts that an engine makes, as the backend is told of them. Runs where the native library does."""

from __future__ import annotations

from ropewalk.backend.context_params import ContextParams
from ropewalk.engine.options import EngineOptions
from ropewalk.engine.speculation import MAX_DRAFT


def context_params(options: EngineOptions) -> ContextParams:
    """How the context is made that a model is loaded with."""
    return ContextParams(
        n_ctx=options.n_ctx,
        n_batch=options.batch_size,
        n_ubatch=options.ubatch_size,
        n_outputs=max(1 + MAX_DRAFT, min(options.n_scored, options.batch_size)),
        threads=options.threads,
        flash_attention=options.flash_attention,
        kv_type=options.kv_type,
        n_sequences=options.n_sequences,
    )
