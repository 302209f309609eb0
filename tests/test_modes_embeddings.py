"""Embeddings out of and into models under every kind of plan, against the oracle's final hidden states."""

from __future__ import annotations

import llama_cpp
import numpy as np
import pytest

from batches import decode_rows, decode_tokens
from library_logits import Float32, LoadedContext, Mode, loaded
from mode_plans import PLANS, Reservation, in_force, random_tokens, write_model
from reference_memory import ReferenceMemory
from reference_transformer import Float64
from ropewalk_plan import ContextPlan
from tiny_models import Architecture, TinyModel

pytestmark = pytest.mark.usefixtures("patched_library")

N_TOKENS = 150
TOKENS = random_tokens(N_TOKENS, seed=1)
BOUND = 3e-4
SEEN = 0.3
"""What leaving a plan out changes at least."""


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    arch: Architecture = request.param
    return write_model(tmp_path_factory.mktemp("embeddings") / f"{arch}.gguf", arch)


def hidden_states(model: TinyModel, plan: ContextPlan | None) -> Float64:
    return ReferenceMemory(model, in_force(model, plan, N_TOKENS)).decode(TOKENS)


def embedding(context: LoadedContext, row: int, width: int) -> Float32:
    values = llama_cpp.llama_get_embeddings_ith(context.context, row)
    return np.array(np.ctypeslib.as_array(values, shape=(width,)))


def largest(a: Float32 | Float64, b: Float32 | Float64) -> float:
    return float(np.abs(a - b).max())


@pytest.mark.parametrize("name", PLANS)
def test_every_tokens_embedding(model: TinyModel, name: str) -> None:
    """Without pooling, in a context that is switched to embeddings while it is in use."""
    under = Reservation(PLANS[name], N_TOKENS)
    with loaded(model.path, 256, Mode(ubatch_size=64, threads=1), prepare=under.on_model) as context:
        under.in_context(context.context)
        context.decode(TOKENS[:50])
        llama_cpp.llama_set_embeddings(context.context, True)
        context.decode(TOKENS[50:], 50)
        got = np.stack([embedding(context, row, model.n_embd) for row in range(N_TOKENS - 50)])
    expected = hidden_states(model, PLANS[name])
    assert largest(got, expected[50:]) <= BOUND
    assert largest(expected, hidden_states(model, None)) > SEEN


@pytest.mark.parametrize("name", PLANS)
def test_mean_pooling_of_two_sequences(model: TinyModel, name: str) -> None:
    plan = PLANS[name]
    under = Reservation(plan, N_TOKENS)
    mode = Mode(n_seq_max=2, kv_unified=True, pooling=llama_cpp.LLAMA_POOLING_TYPE_MEAN, threads=1)
    with loaded(model.path, 512, mode, prepare=under.on_model) as context:
        under.in_context(context.context)
        positions, sequences = [*range(N_TOKENS), *range(40)], [0] * N_TOKENS + [1] * 40
        decode_tokens(context, TOKENS + TOKENS[:40], positions, sequences)
        got = [
            np.array(
                np.ctypeslib.as_array(
                    llama_cpp.llama_get_embeddings_seq(context.context, sequence), shape=(model.n_embd,)
                )
            )
            for sequence in (0, 1)
        ]
    expected = hidden_states(model, plan)
    assert largest(got[0], expected.mean(axis=0)) <= BOUND
    assert largest(got[1], expected[:40].mean(axis=0)) <= BOUND


@pytest.mark.parametrize("unified", [True, False], ids=["unified", "apart"])
@pytest.mark.parametrize("name", PLANS)
def test_rows_in_the_place_of_tokens(model: TinyModel, name: str, unified: bool) -> None:
    """A batch of embeddings (images come so) is turned and scaled by its positions like one of tokens."""
    plan = PLANS[name]
    under = Reservation(plan, N_TOKENS)
    mode = Mode(n_seq_max=2, kv_unified=unified, ubatch_size=64, threads=1)
    rows = model.tensors["token_embd.weight"][np.asarray(TOKENS)]
    memory = ReferenceMemory(model, in_force(model, plan, N_TOKENS))
    with loaded(model.path, 512, mode, prepare=under.on_model) as context:
        under.in_context(context.context)
        for first, count in ((0, 60), (60, 1), (61, 89)):
            part = slice(first, first + count)
            positions, sequences = range(first, first + count), [1] * count
            got = decode_rows(context, rows[part], positions, sequences)
            expected = memory.decode(TOKENS[part], first, sequence=1)
            assert largest(got, memory.logits(expected)) <= BOUND
        llama_cpp.llama_memory_clear(context.memory, True)
        of_rows = decode_rows(context, rows, range(N_TOKENS), [0] * N_TOKENS)
        llama_cpp.llama_memory_clear(context.memory, True)
        of_tokens = decode_tokens(context, TOKENS, range(N_TOKENS), [0] * N_TOKENS)
        assert np.array_equal(of_rows, of_tokens)
