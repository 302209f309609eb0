"""Keys moved twice equal keys computed fresh at their new positions, under every kind of plan.

The keys are read out of a saved sequence. Oracle: the first layer's keys, which depend on the tokens alone,
in float64 at the positions where they are now.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import llama_cpp
import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter

from batches import cut_front
from library_logits import LoadedContext, Mode, loaded
from method_oracles import yarn
from mode_plans import PLANS, TRAIN_LENGTH, Reservation, in_force, random_tokens, write_model
from reference_memory import ReferenceMemory
from reference_transformer import Float64, Positions
from ropewalk.backend import context_plan
from ropewalk_convert import bake
from ropewalk_plan import ContextPlan
from saved_state import read, save
from tiny_models import Architecture, TinyModel, add_yarn_keys

pytestmark = pytest.mark.usefixtures("patched_library")

N_TOKENS, RESERVED = 130, 200
TOKENS = random_tokens(N_TOKENS, seed=1)

BOUND = 1e-4
"""Keys of F32; they are of the order of 10, and the angles' own rounding weighs most (measured: 3e-5)."""


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    arch: Architecture = request.param
    return write_model(tmp_path_factory.mktemp("shifts") / f"{arch}.gguf", arch)


class Moved:
    """The same tokens in the library's memory and in the oracle's, and what happens to both."""

    def __init__(self, context: LoadedContext, memory: ReferenceMemory) -> None:
        self._context, self._memory, self._length = context, memory, N_TOKENS

    def cut(self, count: int) -> None:
        """Drops the first tokens; the library turns its keys when it computes next."""
        cut_front(self._context, count)
        self._memory.remove(0, 0, count)
        self._memory.shift(0, count, -count)
        self._length -= count

    def push(self, begin: int, by: int) -> None:
        """Moves the tokens from `begin` on up."""
        llama_cpp.llama_memory_seq_add(self._context.memory, 0, begin, -1, by)
        self._memory.shift(0, begin, by)
        self._length += by

    def compute(self) -> None:
        """One token more, and away with it."""
        self._context.decode([9], self._length)
        assert llama_cpp.llama_memory_seq_rm(self._context.memory, 0, self._length, -1)

    def errors(self) -> Float64:
        """Of the first layer's keys, [cells, n_head_kv * head_dim]."""
        saved, exact = read(save(self._context.context)), self._memory.turned_keys(0)
        assert saved.positions == tuple(self._memory.positions)
        return np.asarray(saved.keys[0] - exact.reshape(len(exact), -1))


def start(context: LoadedContext, model: TinyModel, plan: ContextPlan) -> Moved:
    """The tokens in both memories, under the factors for `RESERVED` tokens."""
    memory = ReferenceMemory(model, in_force(model, plan, RESERVED))
    memory.decode(TOKENS)
    context.decode(TOKENS)
    return Moved(context, memory)


@pytest.mark.parametrize("name", PLANS)
def test_keys_moved_down_and_up(model: TinyModel, name: str) -> None:
    under = Reservation(PLANS[name], RESERVED)
    with loaded(model.path, 256, Mode(threads=1), prepare=under.on_model) as context:
        under.in_context(context.context)
        both = start(context, model, PLANS[name])
        for move in (
            partial(both.cut, 37),
            partial(both.cut, 20),
            partial(both.push, 30, 90),
            partial(both.cut, 5),
        ):
            move()
            both.compute()
            assert float(np.abs(both.errors()).max()) <= BOUND
        both.cut(3)
        both.cut(4)  # two moves before the keys are turned are one
        both.compute()
        assert float(np.abs(both.errors()).max()) <= BOUND


@pytest.mark.parametrize(
    "key_type", [llama_cpp.GGML_TYPE_F16, int(GGMLQuantizationType.BF16)], ids=["f16", "bf16"]
)
@pytest.mark.parametrize("name", PLANS)
def test_every_shift_of_16_bit_keys_costs_one_rounding(model: TinyModel, name: str, key_type: int) -> None:
    under = Reservation(PLANS[name], RESERVED)
    mode = Mode(kv_type=key_type, threads=1)
    with loaded(model.path, 256, mode, prepare=under.on_model) as context:
        under.in_context(context.context)
        both = start(context, model, PLANS[name])
        deviations = [float(np.sqrt(np.mean(both.errors() ** 2)))]
        for cut in (37, 20):
            both.cut(cut)
            both.compute()
            deviations.append(float(np.sqrt(np.mean(both.errors() ** 2))))
    for shifts in (1, 2):
        assert deviations[0] < deviations[shifts] <= 1.1 * np.sqrt(shifts + 1) * deviations[0]


@pytest.mark.parametrize("name", ["logn", "one-layer"])
@pytest.mark.parametrize("arch", ["llama", "qwen3"])
def test_the_models_own_yarn_is_multiplied_in_once(name: str, arch: Architecture, tmp_path: Path) -> None:
    """The first layer, which these plans leave to the file's YaRN keys: its attention factor is 1.139."""

    def yarn_keys(writer: GGUFWriter) -> None:
        add_yarn_keys(writer, factor=4.0, train_length=TRAIN_LENGTH)

    model = write_model(tmp_path / "yarn.gguf", arch, extra_keys=yarn_keys)
    memory = ReferenceMemory(model, lambda layer, m: yarn(model, 4 * TRAIN_LENGTH, m))
    memory.decode(TOKENS)
    with loaded(model.path, 256, Mode(threads=1), prepare=Reservation(PLANS[name], 0).on_model) as context:
        context.decode(TOKENS)
        both = Moved(context, memory)
        for cut in (37, 20):
            both.cut(cut)
            both.compute()
            assert float(np.abs(both.errors()).max()) <= BOUND


@pytest.mark.parametrize("name", ["schedule", "all"])
def test_a_move_and_a_step_that_rises_with_the_same_batch(model: TinyModel, name: str) -> None:
    """The keys are turned by the move under the old factors, and then to the new ones."""
    plan, length = PLANS[name], N_TOKENS

    def now(layer: int, m: Float64) -> Positions:
        return in_force(model, plan, length)(layer, m)

    memory = ReferenceMemory(model, now)
    memory.decode(TOKENS)
    with loaded(model.path, 256, Mode(threads=1), prepare=Reservation(plan, 0).on_model) as context:
        context.decode(TOKENS)
        both = Moved(context, memory)
        both.cut(37)
        both.push(0, 60)  # one token more is at 153, beyond the step for 144
        length = 154
        both.compute()
        assert context_plan.length_in_force(context.context) == 256
        assert float(np.abs(both.errors()).max()) <= BOUND


@pytest.mark.parametrize("name", ["schedule", "all"])
def test_a_move_and_a_reservation_before_anything_is_computed(model: TinyModel, name: str) -> None:
    """The keys still stand where they were: they are moved under the old factors before they are turned."""
    plan, length = PLANS[name], N_TOKENS

    def now(layer: int, m: Float64) -> Positions:
        return in_force(model, plan, length)(layer, m)

    memory = ReferenceMemory(model, now)
    memory.decode(TOKENS)
    with loaded(model.path, 256, Mode(threads=1), prepare=Reservation(plan, 0).on_model) as context:
        context.decode(TOKENS)
        both = Moved(context, memory)
        both.cut(37)
        length = RESERVED
        context_plan.reserve(context.context, RESERVED)
        assert context_plan.length_in_force(context.context) == 256
        both.compute()
        assert float(np.abs(both.errors()).max()) <= BOUND


@pytest.mark.parametrize("name", PLANS)
def test_a_move_and_a_saved_state_before_anything_is_computed(model: TinyModel, name: str) -> None:
    """The state has the new positions, and so it must have the keys for them."""
    under = Reservation(PLANS[name], RESERVED)
    with loaded(model.path, 256, Mode(threads=1), prepare=under.on_model) as context:
        under.in_context(context.context)
        both = start(context, model, PLANS[name])
        both.cut(37)
        assert float(np.abs(both.errors()).max()) <= BOUND


@pytest.mark.parametrize("arch", ["llama", "qwen3"])
def test_a_native_plans_attention_factor_is_multiplied_in_once(arch: Architecture, tmp_path: Path) -> None:
    """Stock keys rotate there, and llama.cpp's own shifts would multiply the keys by YaRN's factor again."""
    plain = write_model(tmp_path / "plain.gguf", arch)
    assert bake(plain.path, tmp_path / "yarn.gguf", method="yarn", target_length=256).native
    memory = ReferenceMemory(plain, lambda layer, m: yarn(plain, 256, m))
    memory.decode(TOKENS)
    with loaded(tmp_path / "yarn.gguf", 256, Mode(threads=1)) as context:
        context.decode(TOKENS)
        both = Moved(context, memory)
        assert float(np.abs(both.errors()).max()) <= BOUND
        for cut in (37, 20):
            both.cut(cut)
            both.compute()
            assert float(np.abs(both.errors()).max()) <= BOUND
