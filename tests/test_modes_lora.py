"""LoRA adapters under every kind of plan: equal to the oracle whose weights have the update merged in."""

from __future__ import annotations

import ctypes

import llama_cpp
import numpy as np
import pytest

from library_logits import Float32, LoadedContext, Mode, loaded
from mode_plans import PLANS, Reservation, in_force, random_tokens, write_model
from reference_memory import ReferenceMemory
from reference_transformer import Float64
from ropewalk_plan import ContextPlan
from tiny_lora import TinyAdapter, write_tiny_adapter
from tiny_models import Architecture, TinyModel

pytestmark = pytest.mark.usefixtures("patched_library")

N_TOKENS = 150
TOKENS = random_tokens(N_TOKENS, seed=1)
SCALE = 0.8
BOUND = 5e-4
SEEN = 1.0
"""What an adapter, or a plan, changes at least."""


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def adapted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TinyModel, TinyAdapter]:
    arch: Architecture = request.param
    folder = tmp_path_factory.mktemp("lora")
    model = write_model(folder / f"{arch}.gguf", arch)
    return model, write_tiny_adapter(folder / "adapter.gguf", model)


def put_on(context: LoadedContext, adapter: object, scale: float) -> None:
    """From the next batch on; none with a scale of 0."""
    adapters = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(adapter)
    count = 1 if scale else 0
    status = llama_cpp.llama_set_adapters_lora(context.context, adapters, count, (ctypes.c_float * 1)(scale))
    assert status == 0


def oracle(model: TinyModel, plan: ContextPlan | None) -> Float64:
    memory = ReferenceMemory(model, in_force(model, plan, N_TOKENS))
    return memory.logits(memory.decode(TOKENS))


def largest(a: Float32 | Float64, b: Float64) -> float:
    return float(np.abs(a - b).max())


@pytest.mark.parametrize("name", PLANS)
def test_an_adapter_is_as_good_as_merged(adapted: tuple[TinyModel, TinyAdapter], name: str) -> None:
    """On, token by token too, and off again, in one context."""
    model, adapter = adapted
    plan = PLANS[name]
    under = Reservation(plan, N_TOKENS)
    with loaded(model.path, 256, Mode(threads=1), prepare=under.on_model) as context:
        under.in_context(context.context)
        handle = llama_cpp.llama_adapter_lora_init(context.model, str(adapter.path).encode())
        assert handle
        off_before = context.decode(TOKENS)
        put_on(context, handle, SCALE)
        llama_cpp.llama_memory_clear(context.memory, True)
        on = [context.decode(TOKENS[:120])]
        on += [context.decode([token], 120 + i) for i, token in enumerate(TOKENS[120:])]
        put_on(context, handle, 0.0)
        llama_cpp.llama_memory_clear(context.memory, True)
        off_after = context.decode(TOKENS)
    plain, merged = oracle(model, plan), oracle(adapter.merged(model, SCALE), plan)
    assert largest(np.concatenate(on), merged) <= BOUND
    assert largest(off_before, plain) <= BOUND
    assert np.array_equal(off_after, off_before)
    assert largest(merged, plain) > SEEN
    assert largest(merged, oracle(adapter.merged(model, SCALE), None)) > SEEN
