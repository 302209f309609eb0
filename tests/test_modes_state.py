"""Saved states under every kind of plan: they go on as if nothing had been saved, and only under their plan.

What a state goes on to is compared bit for bit with the context that it was saved from, whose logits the
other tests compare with the oracle. It goes on past the end of a period of the position maps.
"""

from __future__ import annotations

import ctypes
import dataclasses
from collections.abc import Callable
from pathlib import Path

import llama_cpp
import numpy as np
import pytest

from batches import cut_front, decode_tokens
from library_logits import Float32, LoadedContext, Mode, loaded
from mode_plans import PLANS, Reservation, in_force, random_tokens, write_model
from reference_memory import ReferenceMemory
from reference_transformer import Float64, Positions
from ropewalk.backend import context_plan
from ropewalk_plan import ContextPlan
from saved_state import read, save
from tiny_models import Architecture, TinyModel

pytestmark = pytest.mark.usefixtures("patched_library")

N_TOKENS, RESERVED = 120, 200
TOKENS = random_tokens(N_TOKENS, seed=1)
NEXT = random_tokens(20, seed=2)
BOUND = 5e-4
F32 = Mode(threads=1)
Q8_0 = Mode(kv_type=llama_cpp.GGML_TYPE_Q8_0, flash_attention=True, threads=1)
ALL_PLANS: dict[str, ContextPlan | None] = {"none": None, **PLANS}


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    arch: Architecture = request.param
    return write_model(tmp_path_factory.mktemp("state") / f"{arch}.gguf", arch)


@dataclasses.dataclass(frozen=True)
class Way:
    """A way of saving and of restoring; `restore` says whether it did."""

    save: Callable[[LoadedContext, Path], None]
    restore: Callable[[LoadedContext, Path], bool]


def save_sequence(context: LoadedContext, path: Path) -> None:
    path.write_bytes(save(context.context))


def restore_sequence(context: LoadedContext, path: Path, sequence: int = 0) -> bool:
    data = path.read_bytes()
    buffer = (ctypes.c_uint8 * len(data)).from_buffer_copy(data)
    return bool(llama_cpp.llama_state_seq_set_data(context.context, buffer, len(data), sequence) == len(data))


def save_whole(context: LoadedContext, path: Path) -> None:
    size = llama_cpp.llama_state_get_size(context.context)
    data = (ctypes.c_uint8 * size)()
    assert llama_cpp.llama_state_get_data(context.context, data, size) == size
    path.write_bytes(bytes(data))


def restore_whole(context: LoadedContext, path: Path) -> bool:
    data = path.read_bytes()
    buffer = (ctypes.c_uint8 * len(data)).from_buffer_copy(data)
    return bool(llama_cpp.llama_state_set_data(context.context, buffer, len(data)) == len(data))


def save_sequence_file(context: LoadedContext, path: Path) -> None:
    tokens = (llama_cpp.llama_token * 1)(5)
    assert llama_cpp.llama_state_seq_save_file(context.context, str(path).encode(), 0, tokens, 1)


def restore_sequence_file(context: LoadedContext, path: Path) -> bool:
    tokens, count = (llama_cpp.llama_token * 1)(), ctypes.c_size_t()
    name = str(path).encode()
    return bool(llama_cpp.llama_state_seq_load_file(context.context, name, 0, tokens, 1, ctypes.byref(count)))


def save_file(context: LoadedContext, path: Path) -> None:
    tokens = (llama_cpp.llama_token * 1)(5)
    assert llama_cpp.llama_state_save_file(context.context, str(path).encode(), tokens, 1)


def restore_file(context: LoadedContext, path: Path) -> bool:
    tokens, count = (llama_cpp.llama_token * 1)(), ctypes.c_size_t()
    name = str(path).encode()
    return bool(llama_cpp.llama_state_load_file(context.context, name, tokens, 1, ctypes.byref(count)))


WAYS = {
    "sequence": Way(save_sequence, restore_sequence),
    "whole": Way(save_whole, restore_whole),
    "sequence-file": Way(save_sequence_file, restore_sequence_file),
    "whole-file": Way(save_file, restore_file),
}


def go_on(context: LoadedContext, start: int) -> Float32:
    """In one batch, and then token by token."""
    parts = [context.decode(NEXT[:10], start)]
    parts += [context.decode([token], start + i) for i, token in enumerate(NEXT[10:], start=10)]
    return np.concatenate(parts)


@pytest.mark.parametrize(
    ("way", "mode"),
    [*((way, F32) for way in WAYS.values()), (WAYS["sequence"], Q8_0), (WAYS["whole"], Q8_0)],
    ids=[*WAYS, "sequence-q8_0", "whole-q8_0"],
)
@pytest.mark.parametrize("name", PLANS)
def test_a_restored_state_goes_on_bit_for_bit(
    model: TinyModel, name: str, mode: Mode, way: Way, tmp_path: Path
) -> None:
    under = Reservation(PLANS[name], RESERVED)
    with loaded(model.path, 256, mode, prepare=under.on_model) as context:
        under.in_context(context.context)
        context.decode(TOKENS)
        way.save(context, tmp_path / "state")
        went_on = go_on(context, N_TOKENS)
    with loaded(model.path, 512, mode, prepare=under.on_model) as context:
        if mode is F32:  # quantized keys of an earlier step would have to be turned
            context.decode(TOKENS[:5])  # what is there gives way to the state
        assert way.restore(context, tmp_path / "state")
        assert np.array_equal(go_on(context, N_TOKENS), went_on)


@pytest.mark.parametrize("name", PLANS)
def test_a_state_saved_after_a_shift(model: TinyModel, name: str, tmp_path: Path) -> None:
    """Restored cells stand in another order, so sums are rounded otherwise."""
    under = Reservation(PLANS[name], RESERVED)
    with loaded(model.path, 256, F32, prepare=under.on_model) as context:
        under.in_context(context.context)
        context.decode(TOKENS)
        cut_front(context, 9)
        context.decode([7], N_TOKENS - 9)
        save_sequence(context, tmp_path / "state")
        went_on = go_on(context, N_TOKENS - 8)
    with loaded(model.path, 256, F32, prepare=under.on_model) as context:
        assert restore_sequence(context, tmp_path / "state")
        assert float(np.abs(go_on(context, N_TOKENS - 8) - went_on).max()) <= BOUND


@pytest.mark.parametrize("unified", [True, False], ids=["unified", "apart"])
@pytest.mark.parametrize("name", PLANS)
def test_a_whole_state_of_several_sequences(
    model: TinyModel, name: str, unified: bool, tmp_path: Path
) -> None:
    """And one of them alone, put into another sequence's place."""
    under = Reservation(PLANS[name], RESERVED)
    mode = Mode(n_seq_max=2, kv_unified=unified, threads=1)

    def decode(context: LoadedContext, tokens: list[int], first: int, second: int) -> Float32:
        """The tokens of both sequences, which stand at `first` and `second`, in one batch."""
        positions = [*range(first, first + len(tokens)), *range(second, second + len(tokens))]
        return decode_tokens(context, tokens * 2, positions, [0] * len(tokens) + [1] * len(tokens))

    with loaded(model.path, 512, mode, prepare=under.on_model) as context:
        under.in_context(context.context)
        context.decode(TOKENS[:70])
        decode(context, TOKENS[70:100], 70, 0)
        save_whole(context, tmp_path / "whole")
        save_sequence(context, tmp_path / "first")
        went_on = decode(context, NEXT, 100, 30)
    with loaded(model.path, 512, mode, prepare=under.on_model) as context:
        assert restore_whole(context, tmp_path / "whole")
        assert np.array_equal(decode(context, NEXT, 100, 30), went_on)
    with loaded(model.path, 512, mode, prepare=under.on_model) as context:
        assert restore_sequence(context, tmp_path / "first", sequence=1)
        moved = decode_tokens(context, NEXT, range(100, 120), [1] * len(NEXT))
    assert float(np.abs(moved - went_on[: len(NEXT)]).max()) <= BOUND  # its cells stand elsewhere


@pytest.mark.parametrize(
    ("saved_under", "read_under", "way"),
    [
        *(
            (*pair, way)
            for pair in (("factors", "schedule"), ("all", "none"), ("none", "logn"), ("periodic", "mirrored"))
            for way in WAYS.values()
        ),
        *((name, "none", WAYS["sequence"]) for name in PLANS),
        *(("none", name, WAYS["whole"]) for name in PLANS),
        ("schedule", "all", WAYS["sequence"]),
        ("mirrored", "one-layer", WAYS["sequence"]),
        ("logn", "factors", WAYS["sequence"]),
    ],
)
def test_another_plans_state_is_refused_and_nothing_is_lost(
    model: TinyModel, saved_under: str, read_under: str, way: Way, tmp_path: Path
) -> None:
    with loaded(model.path, 256, F32, prepare=Reservation(ALL_PLANS[saved_under], 0).on_model) as context:
        context.decode(TOKENS[:40])
        way.save(context, tmp_path / "state")
    plan = ALL_PLANS[read_under]
    with loaded(model.path, 256, F32, prepare=Reservation(plan, 0).on_model) as context:
        context.decode(TOKENS[:60])
        went_on = context.decode(NEXT, 60)
        assert llama_cpp.llama_memory_seq_rm(context.memory, 0, 60, -1)
        context_plan.last_error()
        assert not way.restore(context, tmp_path / "state")
        if plan is not None:  # a context without a plan refuses by llama.cpp's own check, which knows none
            assert "under another context plan than this context has" in context_plan.last_error()
        assert np.array_equal(context.decode(NEXT, 60), went_on)


def test_a_state_carries_its_plans_hash(model: TinyModel) -> None:
    def saved_hash(plan: ContextPlan | None) -> int | None:
        with loaded(model.path, 256, F32, prepare=Reservation(plan, 0).on_model) as context:
            context.decode(TOKENS[:5])
            return read(save(context.context)).plan_hash

    assert saved_hash(None) is None
    hashes = {name: saved_hash(plan) for name, plan in PLANS.items()}
    assert None not in hashes.values()
    assert len(set(hashes.values())) == len(PLANS)
    renamed = dataclasses.replace(PLANS["all"], method="otherwise called", options="x=1")
    assert saved_hash(renamed) == hashes["all"]
    longer = dataclasses.replace(PLANS["logn"], target_length=512)
    assert saved_hash(longer) != hashes["logn"]


def test_a_state_of_a_later_step_turns_the_keys_that_are_there(model: TinyModel, tmp_path: Path) -> None:
    """And one of an earlier step is refused while there are any."""
    plan = PLANS["all"]
    prepare = Reservation(plan, 0).on_model
    mode = Mode(n_seq_max=2, kv_unified=True, threads=1)
    length = 50

    def now(layer: int, m: Float64) -> Positions:
        return in_force(model, plan, length)(layer, m)

    with loaded(model.path, 512, mode, prepare=prepare) as context:
        context.decode(TOKENS[:130])
        save_sequence(context, tmp_path / "later")
    memory = ReferenceMemory(model, now)
    with loaded(model.path, 512, mode, prepare=prepare) as context:
        context.decode(TOKENS[:50])
        save_sequence(context, tmp_path / "earlier")
        memory.decode(TOKENS[:50])
        assert restore_sequence(context, tmp_path / "later", sequence=1)
        length = 144
        assert context_plan.length_in_force(context.context) == 144
        got = context.decode(NEXT, 50)
        assert float(np.abs(got - memory.logits(memory.decode(NEXT, 50))).max()) <= BOUND
        assert not restore_sequence(context, tmp_path / "earlier")
        assert "factors for shorter texts than are in force now" in context_plan.last_error()
