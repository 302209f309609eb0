"""Schedules: the step in force follows the longest sequence, and cached keys are turned when it rises.

Oracle: the float64 transformer, which keeps its keys unrotated and turns them anew for every batch by the
factors that the schedule has in force then.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import llama_cpp
import numpy as np
import pytest

from library_logits import LoadedContext, Mode, loaded
from reference_transformer import (
    Float64,
    Positions,
    ReferenceTransformer,
    plain_frequencies,
    reference_logits,
)
from ropewalk.backend import context_plan
from ropewalk.backend.errors import PlanRefusedError
from ropewalk_plan import ContextPlan, PositionKind, PositionMap, ScheduleStep
from tiny_models import Architecture, TinyModel, write_tiny_model

pytestmark = pytest.mark.usefixtures("patched_library")

BOUND = 1e-3
TRAIN_LENGTH = 64
LENGTHS = (64, 96, 144, 256)
SCALES = (1.0, 1.5, 2.25, 4.0)
ATTENTION_FACTORS = (1.0, 1.05, 1.1, 1.15)


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    arch: Architecture = request.param
    path = tmp_path_factory.mktemp("schedule") / f"{arch}.gguf"
    return write_tiny_model(path, arch=arch, train_length=TRAIN_LENGTH, seed=6)


@pytest.fixture(scope="module")
def tokens() -> list[int]:
    return [int(token) for token in np.random.default_rng(8).integers(3, 360, 200)]


def factors(model: TinyModel, scale: float) -> Float64:
    """A raised base, relative to the model's own (any factors that change with the step would do)."""
    pairs = np.arange(model.rope_dim // 2, dtype=np.float64)
    return np.asarray(scale ** (2 * pairs / (model.rope_dim - 2)))


def schedule(model: TinyModel, *, mapped_from: int | None = None, attention: bool = True) -> ContextPlan:
    steps = tuple(
        ScheduleStep(length, tuple(factors(model, scale)), attention_factor if attention else 1.0)
        for length, scale, attention_factor in zip(LENGTHS, SCALES, ATTENTION_FACTORS, strict=True)
    )
    position_map = PositionMap()
    if mapped_from is not None:
        position_map = PositionMap(PositionKind.PERIODIC, TRAIN_LENGTH, mapped_from)
    return ContextPlan("test", TRAIN_LENGTH, LENGTHS[-1], schedule=steps, position_map=position_map)


def in_force(model: TinyModel, plan: ContextPlan, length: int) -> Callable[[Float64], Positions]:
    """What the plan's equations make of positions while the longest sequence has `length` tokens."""
    step = next(step for step in plan.schedule if step.up_to_length >= length)
    theta = plain_frequencies(model) / np.asarray(step.frequency_factors)

    def positions(m: Float64) -> Positions:
        angles = np.outer(m, theta)
        if plan.position_map.kind is PositionKind.PERIODIC:
            mapped = np.arange(len(theta)) >= plan.position_map.first_pair
            angles = np.where(mapped, np.outer(m % plan.position_map.period, theta), angles)
        return Positions(angles, step.attention_factor)

    return positions


def with_plan(plan: ContextPlan) -> Callable[[llama_cpp.llama_model_p], None]:
    return lambda handle: context_plan.set_plan(handle, plan)


def replay(
    context: LoadedContext, model: TinyModel, plan: ContextPlan, tokens: list[int], batches: list[int]
) -> float:
    """The largest logit difference to the oracle when both read the tokens in these batches."""
    reference = ReferenceTransformer(model)
    worst, start = 0.0, 0
    for size in batches:
        part = tokens[start : start + size]
        got = context.decode(part, start)
        start += size
        expected = reference.decode(part, in_force(model, plan, start))
        worst = max(worst, float(np.abs(got - expected).max()))
    return worst


@pytest.mark.parametrize("mapped_from", [None, 3], ids=["identity", "periodic"])
@pytest.mark.parametrize("batches", [[200], [60, 10, 70, 60], [1] * 200], ids=["one", "four", "single"])
def test_every_batch_is_computed_under_the_step_in_force(
    model: TinyModel, tokens: list[int], batches: list[int], mapped_from: int | None
) -> None:
    plan = schedule(model, mapped_from=mapped_from)
    with loaded(model.path, 256, prepare=with_plan(plan)) as context:
        assert replay(context, model, plan, tokens, batches) <= BOUND
        assert context_plan.length_in_force(context.context) == LENGTHS[-1]


def test_turned_keys_are_not_what_they_were(model: TinyModel, tokens: list[int]) -> None:
    """The same tokens in one batch and in many differ by far more than the bound: the steps are seen."""
    plan = schedule(model)
    with loaded(model.path, 256, prepare=with_plan(plan)) as context:
        at_once = context.decode(tokens)[-1]
    with loaded(model.path, 256, prepare=with_plan(plan)) as context:
        for start in range(0, 200, 20):
            in_parts = context.decode(tokens[start : start + 20], start)[-1]
    assert float(np.abs(at_once - in_parts).max()) > 50 * BOUND


def test_a_reserved_length_is_in_force_from_the_start(model: TinyModel, tokens: list[int]) -> None:
    plan = schedule(model)
    expected = reference_logits(model, tokens, in_force(model, plan, 200)(np.arange(200.0)))
    with loaded(model.path, 256, prepare=with_plan(plan)) as context:
        context_plan.reserve(context.context, 200)
        parts = [context.decode(tokens[start : start + 25], start) for start in range(0, 200, 25)]
    assert float(np.abs(np.concatenate(parts) - expected).max()) <= BOUND


def test_a_step_never_falls_back_until_the_memory_is_empty(model: TinyModel, tokens: list[int]) -> None:
    plan = schedule(model)
    with loaded(model.path, 256, prepare=with_plan(plan)) as context:
        context.decode(tokens[:100])
        assert llama_cpp.llama_memory_seq_rm(context.memory, 0, 10, -1)
        context.decode(tokens[10:11], 10)
        assert context_plan.length_in_force(context.context) == 144
        llama_cpp.llama_memory_clear(context.memory, True)
        fresh = context.decode(tokens[:50])
        assert context_plan.length_in_force(context.context) == 64
    expected = reference_logits(model, tokens[:50], in_force(model, plan, 50)(np.arange(50.0)))
    assert float(np.abs(fresh - expected).max()) <= BOUND


def test_f16_keys_turned_k_times_err_by_the_root_of_k_roundings(tmp_path: Path, tokens: list[int]) -> None:
    """Against keys that the same library rotated freshly under the last step (one layer: same values)."""
    single = write_tiny_model(tmp_path / "one.gguf", n_layer=1, train_length=TRAIN_LENGTH, seed=6)
    plan = schedule(single, attention=False)
    mode = Mode(kv_type=llama_cpp.GGML_TYPE_F16)

    def keys(reserve: bool) -> Float64:
        with loaded(single.path, 256, mode, prepare=with_plan(plan)) as context:
            if reserve:
                context_plan.reserve(context.context, 200)
            for start, end in ((0, 60), (60, 90), (90, 140), (140, 200)):
                context.decode(tokens[start:end], start)
            return stored_keys(context, single)[:60]  # turned three times where nothing was reserved

    exact = exact_keys(single, plan, tokens[:60])
    fresh, turned = keys(reserve=True), keys(reserve=False)
    one_rounding = float(np.sqrt(np.mean((fresh - exact) ** 2)))
    error = float(np.sqrt(np.mean((turned - exact) ** 2)))
    assert one_rounding > 0
    assert one_rounding < error <= np.sqrt(3 + 1) * 1.05 * one_rounding  # 5%: the sample's own spread


def exact_keys(model: TinyModel, plan: ContextPlan, tokens: list[int]) -> Float64:
    """The keys of a one-layer model under the last step, in float64, [tokens, heads, head_dim]."""
    w = {name: tensor.astype(np.float64) for name, tensor in model.tensors.items()}
    hidden = w["token_embd.weight"][np.asarray(tokens)]
    x = (
        hidden
        / np.sqrt(np.mean(hidden**2, axis=1, keepdims=True) + model.rms_eps)
        * w["blk.0.attn_norm.weight"]
    )
    k = (x @ w["blk.0.attn_k.weight"].T).reshape(len(tokens), model.n_head_kv, model.head_dim)
    angles = in_force(model, plan, LENGTHS[-1])(np.arange(float(len(tokens)))).angles[:, None, :]
    turned = k.copy()
    turned[..., 0::2] = k[..., 0::2] * np.cos(angles) - k[..., 1::2] * np.sin(angles)
    turned[..., 1::2] = k[..., 0::2] * np.sin(angles) + k[..., 1::2] * np.cos(angles)
    return np.asarray(turned)


def stored_keys(context: LoadedContext, model: TinyModel) -> Float64:
    """The F16 keys of layer 0 out of a saved sequence, by cell; the keys are the first long run of rows."""
    size = llama_cpp.llama_state_seq_get_size(context.context, 0)
    data = (ctypes.c_uint8 * size)()
    assert llama_cpp.llama_state_seq_get_data(context.context, data, size, 0) == size
    raw = bytes(data)
    row = model.n_head_kv * model.head_dim * 2
    n_cells = 200
    marker = int(llama_cpp.GGML_TYPE_F16).to_bytes(4, "little") + row.to_bytes(8, "little")
    at = raw.index(marker) + len(marker)
    keys = np.frombuffer(raw, np.float16, n_cells * row // 2, at).astype(np.float64)
    return np.asarray(keys.reshape(n_cells, model.n_head_kv, model.head_dim))


def test_quantized_keys_need_a_reservation(tmp_path: Path, tokens: list[int]) -> None:
    wide = write_tiny_model(tmp_path / "wide.gguf", n_embd=128, n_head=2, n_head_kv=1, head_dim=64)
    plan = schedule(wide)
    mode = Mode(kv_type=llama_cpp.GGML_TYPE_Q8_0, flash_attention=True)
    with loaded(wide.path, 256, mode, prepare=with_plan(plan)) as context:
        context.decode(tokens[:50])
        with pytest.raises(AssertionError, match="llama_decode returned -2"):
            context.decode(tokens[50:100], 50)
        assert "reserve the length first" in context_plan.last_error()
        with pytest.raises(PlanRefusedError, match="reserve the length first"):
            context_plan.reserve(context.context, 200)
        llama_cpp.llama_memory_clear(context.memory, True)
        context_plan.reserve(context.context, 200)
        context.decode(tokens[:50])
        context.decode(tokens[50:100], 50)


def saved(context: LoadedContext) -> ctypes.Array[ctypes.c_uint8]:
    size = llama_cpp.llama_state_seq_get_size(context.context, 0)
    data: ctypes.Array[ctypes.c_uint8] = (ctypes.c_uint8 * size)()
    assert llama_cpp.llama_state_seq_get_data(context.context, data, size, 0) == size
    return data


def restored(context: LoadedContext, data: ctypes.Array[ctypes.c_uint8]) -> bool:
    return bool(llama_cpp.llama_state_seq_set_data(context.context, data, len(data), 0) == len(data))


def test_a_saved_state_brings_its_step_and_goes_on_bit_for_bit(model: TinyModel, tokens: list[int]) -> None:
    plan = schedule(model)
    with loaded(model.path, 256, prepare=with_plan(plan)) as context:
        context.decode(tokens[:60])
        context.decode(tokens[60:120], 60)
        data = saved(context)
        went_on = context.decode(tokens[120:130], 120)
    with loaded(model.path, 256, prepare=with_plan(plan)) as context:
        assert restored(context, data)
        assert context_plan.length_in_force(context.context) == 144
        assert np.array_equal(context.decode(tokens[120:130], 120), went_on)


def test_a_state_of_another_plan_is_refused(model: TinyModel, tokens: list[int]) -> None:
    plan = schedule(model)
    with loaded(model.path, 256, prepare=with_plan(plan)) as context:
        context.decode(tokens[:60])
        of_plan = saved(context)
    with loaded(model.path, 256) as context:
        assert not restored(context, of_plan)
        context.decode(tokens[:60])
        of_none = saved(context)
    with loaded(model.path, 256, prepare=with_plan(schedule(model, mapped_from=2))) as context:
        assert not restored(context, of_plan)
        assert "under another context plan" in context_plan.last_error()
        assert not restored(context, of_none)
        context.decode(tokens[:10])  # and the context goes on
