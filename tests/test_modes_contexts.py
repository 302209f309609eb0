"""One loaded model serves several plans at once: a context executes the plan that it was made under."""

from __future__ import annotations

from pathlib import Path

import llama_cpp
import numpy as np
import pytest

from library_logits import LoadedContext, Mode, loaded
from mode_plans import PLANS, Reservation, in_force, random_tokens, write_model
from reference_memory import ReferenceMemory

pytestmark = pytest.mark.usefixtures("patched_library")

BOUND = 3e-4
N_TOKENS = 150
TOKENS = random_tokens(N_TOKENS, seed=1)


def another_context(of: LoadedContext) -> LoadedContext:
    """A second context of the same model, exact like the first; the caller frees it."""
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx = parameters.n_batch = 256
    parameters.n_threads = parameters.n_threads_batch = 1
    parameters.type_k = parameters.type_v = llama_cpp.GGML_TYPE_F32
    parameters.flash_attn_type = 0
    context = llama_cpp.llama_init_from_model(of.model, parameters)
    assert context
    return LoadedContext(of.model, context, of.n_vocab)


def test_contexts_of_one_model_take_turns_under_their_own_plans(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model.gguf", "llama")
    plans = [*PLANS.values(), None]
    memories = [ReferenceMemory(model, in_force(model, plan, N_TOKENS)) for plan in plans]
    with loaded(model.path, 256, Mode(threads=1)) as plain:  # made before any plan was set
        contexts = []
        for plan in plans[:-1]:
            under = Reservation(plan, N_TOKENS)
            under.on_model(plain.model)
            contexts.append(another_context(plain))
            under.in_context(contexts[-1].context)
        contexts.append(plain)
        try:
            for first, count in ((0, 70), (70, 1), (71, 60), (131, 19)):
                part = TOKENS[first : first + count]
                for context, memory in zip(contexts, memories, strict=True):
                    expected = memory.logits(memory.decode(part, first))
                    assert float(np.abs(context.decode(part, first) - expected).max()) <= BOUND
        finally:
            for context in contexts[:-1]:
                llama_cpp.llama_free(context.context)
