"""Quantized keys and values under every kind of plan, with and without llama.cpp's Hadamard rotation.

Oracle: the float64 transformer whose keys, values and queries are rounded by the types' own definition.
A number that falls on the other side of a rounding's edge in F32 than in float64 makes a difference of
one step, so library and oracle are compared by the root mean square of the logits' differences, as a share
of what the rounding itself changes (measured: at most 0.15; between turned and not turned: at least 1.3).
"""

from __future__ import annotations

from dataclasses import dataclass

import llama_cpp
import numpy as np
import pytest
from gguf import GGMLQuantizationType

from batches import cut_front
from kv_rounding import cache_rounding, hadamard
from library_logits import Float32, Mode, loaded
from mode_plans import HEAD_DIM, PLANS, Reservation, in_force, random_tokens, write_model
from reference_memory import NO_ROUNDING, ReferenceMemory, Rounding
from reference_transformer import Float64
from ropewalk_plan import ContextPlan
from saved_state import read, save
from tiny_models import Architecture, TinyModel

pytestmark = pytest.mark.usefixtures("patched_library")

N_TOKENS = 130
TOKENS = random_tokens(N_TOKENS, seed=1)
SHARE = 0.25
F32, Q8_0, Q4_0 = GGMLQuantizationType.F32, GGMLQuantizationType.Q8_0, GGMLQuantizationType.Q4_0


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    arch: Architecture = request.param
    return write_model(tmp_path_factory.mktemp("quantized") / f"{arch}.gguf", arch)


@dataclass(frozen=True)
class Cache:
    """A cache's types, and whether llama.cpp turns what it quantizes."""

    key: GGMLQuantizationType
    value: GGMLQuantizationType
    turned: bool

    @property
    def mode(self) -> Mode:
        """Quantized values need flash attention."""
        flash = self.value is not F32
        return Mode(kv_type=int(self.key), v_type=int(self.value), flash_attention=flash, threads=1)

    def __str__(self) -> str:
        return f"{self.key.name}-{self.value.name}{'' if self.turned else '-unturned'}"


@pytest.fixture
def cache(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """With llama.cpp's own switch set accordingly."""
    which: Cache = request.param
    monkeypatch.setenv("LLAMA_ATTN_ROT_DISABLE", "0" if which.turned else "1")
    return which


def oracle(model: TinyModel, plan: ContextPlan, rounding: Rounding = NO_ROUNDING) -> Float64:
    memory = ReferenceMemory(model, in_force(model, plan, N_TOKENS), rounding)
    return memory.logits(memory.decode(TOKENS))


def rms(a: Float64 | Float32, b: Float64 | Float32) -> float:
    return float(np.sqrt(np.mean((a - b) ** 2)))


@pytest.mark.parametrize(
    "cache",
    [
        Cache(Q8_0, Q8_0, turned=True),
        Cache(Q8_0, Q8_0, turned=False),
        Cache(Q4_0, Q4_0, turned=True),
        Cache(Q4_0, F32, turned=False),
    ],
    indirect=True,
    ids=str,
)
@pytest.mark.parametrize("name", PLANS)
def test_quantized_caches(model: TinyModel, name: str, cache: Cache) -> None:
    plan = PLANS[name]
    under = Reservation(plan, N_TOKENS)
    with loaded(model.path, 256, cache.mode, prepare=under.on_model) as context:
        under.in_context(context.context)
        got = np.concatenate([context.decode(TOKENS[:100]), context.decode(TOKENS[100:], 100)])
    exact = oracle(model, plan)
    expected = oracle(model, plan, cache_rounding(cache.key, cache.value, cache.turned))
    otherwise = oracle(model, plan, cache_rounding(cache.key, cache.value, not cache.turned))
    rounding = rms(expected, exact)
    assert rms(got, expected) <= SHARE * rounding
    assert rms(got, otherwise) > rounding


@pytest.mark.parametrize(
    "cache",
    [Cache(kind, F32, turned) for kind in (Q8_0, Q4_0) for turned in (True, False)],
    indirect=True,
    ids=str,
)
@pytest.mark.parametrize("name", PLANS)
def test_shifted_keys_err_by_one_more_rounding_a_shift(model: TinyModel, name: str, cache: Cache) -> None:
    """The first layer's stored keys, after two cuts, against exact ones at their new positions.

    A shift rounds once more, so k shifts err by sqrt(k + 1) roundings.
    """
    plan = PLANS[name]
    under = Reservation(plan, N_TOKENS)
    memory = ReferenceMemory(model, in_force(model, plan, N_TOKENS))
    memory.decode(TOKENS)
    length, errors = N_TOKENS, []

    def error(count: int) -> float:
        """Of the keys of the first `count` tokens that are there."""
        exact = memory.turned_keys(0)[:count].reshape(count, -1)
        return rms(stored_keys(context.context, cache.turned)[:count], exact)

    with loaded(model.path, 256, cache.mode, prepare=under.on_model) as context:
        under.in_context(context.context)
        context.decode(TOKENS)
        errors.append(error(length))
        for cut in (37, 20):
            cut_front(context, cut)
            memory.remove(0, 0, cut)
            memory.shift(0, cut, -cut)
            length -= cut
            context.decode([9], length)  # the keys are turned now
            errors.append(error(length))
            assert llama_cpp.llama_memory_seq_rm(context.memory, 0, length, -1)
    for shifts in (1, 2):
        assert errors[0] < errors[shifts] <= 1.1 * np.sqrt(shifts + 1) * errors[0]


def stored_keys(context: llama_cpp.llama_context_p, turned: bool) -> Float64:
    """The first layer's keys as the model computes with them, [cells, n_head_kv * head_dim]."""
    keys = read(save(context)).keys[0]
    if not turned:
        return keys
    heads = keys.reshape(-1, HEAD_DIM) @ hadamard(HEAD_DIM)
    return np.asarray(heads.reshape(keys.shape))
