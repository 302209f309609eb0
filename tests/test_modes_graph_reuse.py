"""A plan costs no graph: token by token as many are reused as without one, and what they give is right.

The tokens cross the end of the position maps' period, LogN's L and the steps of a schedule, where an input
that was not written anew would show. The oracle is the float64 memory of cells.
"""

from __future__ import annotations

import llama_cpp
import numpy as np
import pytest

from library_logits import Float32, Mode, loaded
from mode_plans import PLANS, TRAIN_LENGTH, Reservation, in_force, random_tokens, write_model
from reference_memory import ReferenceMemory
from reference_transformer import Float64, Positions
from ropewalk_plan import ContextPlan
from tiny_models import Architecture, TinyModel

pytestmark = pytest.mark.usefixtures("patched_library")

BOUND = 3e-4
START, N_TOKENS = TRAIN_LENGTH - 4, 150
TOKENS = random_tokens(N_TOKENS, seed=1)


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    arch: Architecture = request.param
    return write_model(tmp_path_factory.mktemp("reuse") / f"{arch}.gguf", arch)


def token_by_token(model: TinyModel, plan: ContextPlan | None, reserved: int) -> tuple[Float32, int]:
    """Logits of every token from `START` on, and how often the graph before was used again."""
    under = Reservation(plan, reserved)
    with loaded(model.path, 256, Mode(threads=1), prepare=under.on_model) as context:
        if reserved:
            under.in_context(context.context)
        context.decode(TOKENS[:START])
        llama_cpp.llama_perf_context_reset(context.context)
        logits = [context.decode([token], START + i) for i, token in enumerate(TOKENS[START:])]
        return np.concatenate(logits), llama_cpp.llama_perf_context(context.context).n_reused


@pytest.mark.parametrize("name", PLANS)
def test_as_many_graphs_are_reused_as_without_a_plan(model: TinyModel, name: str) -> None:
    without, reused_without = token_by_token(model, None, 0)
    logits, reused = token_by_token(model, PLANS[name], N_TOKENS)
    assert reused == reused_without == N_TOKENS - START - 1  # the first token needs its own
    memory = ReferenceMemory(model, in_force(model, PLANS[name], N_TOKENS))
    expected = memory.logits(memory.decode(TOKENS))[START:]
    assert float(np.abs(logits - expected).max()) <= BOUND
    assert float(np.abs(without - expected).max()) > 100 * BOUND


@pytest.mark.parametrize("name", ["schedule", "all"])
def test_a_step_that_rises_costs_one_graph(model: TinyModel, name: str) -> None:
    plan, length = PLANS[name], START

    def now(layer: int, m: Float64) -> Positions:
        return in_force(model, plan, length)(layer, m)

    logits, reused = token_by_token(model, plan, 0)
    rises = sum(START < step.up_to_length < N_TOKENS for step in plan.schedule)
    assert rises == 3
    assert reused == N_TOKENS - START - 1 - rises
    memory = ReferenceMemory(model, now)
    memory.decode(TOKENS[:START])
    for i, token in enumerate(TOKENS[START:]):
        length = START + i + 1
        expected = memory.logits(memory.decode([token], START + i))
        assert float(np.abs(logits[i] - expected).max()) <= BOUND
