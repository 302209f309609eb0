"""Windows that are not full change no bit, and windows beside everything else that a plan can say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import llama_cpp
import numpy as np
import pytest

from library_logits import LoadedContext, Mode
from method_oracles import dprope, with_logn
from reference_memory import InForce
from reference_transformer import Float64, Positions, plain_frequencies
from ropewalk.backend import context_plan
from ropewalk_convert import bake
from ropewalk_plan import ContextPlan, PositionKind, PositionMap, ScheduleStep
from tiny_models import Architecture, TinyModel, write_tiny_model
from windowed_contexts import (
    TARGET_LENGTH,
    TRAIN_LENGTH,
    decode_rows,
    in_sequence,
    largest_difference,
    opened,
    opened_logits,
    random_tokens,
    windows_plan,
    with_plan,
)
from windowed_memory import WindowedMemory, windowed_logits

pytestmark = pytest.mark.usefixtures("patched_library")

BOUND = 1e-3
SINKS = 2
WINDOWS = (16, 0, 33, 16)
N_PAIRS = 8
TOKENS = random_tokens(400, seed=81)
EXACT_MODES = (
    Mode(),
    Mode(kv_type=llama_cpp.GGML_TYPE_F16),
    Mode(kv_type=llama_cpp.GGML_TYPE_F16, flash_attention=True),
    Mode(ubatch_size=7),
)


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    arch: Architecture = request.param
    path = tmp_path_factory.mktemp("composed") / f"{arch}.gguf"
    return write_tiny_model(path, arch=arch, n_layer=4, train_length=TRAIN_LENGTH, seed=82)


@pytest.mark.parametrize("mode", EXACT_MODES, ids=["f32", "f16", "f16-flash", "ubatches-of-7"])
@pytest.mark.parametrize(("windows", "length"), [((60, 0, 80, 60), 64), ((400, 400, 500, 400), 400)])
def test_windows_that_are_not_full_change_no_bit(
    model: TinyModel, windows: tuple[int, ...], length: int, mode: Mode
) -> None:
    """4 sinks and the last 60 are all of 64 tokens. The caches are as long as those without a plan so far."""
    plain = opened_logits(model.path, TOKENS[:length], mode)
    with opened(model.path, 512, mode, with_plan(windows_plan(windows, 4))) as context:
        got = context.decode(TOKENS[:length])
    assert np.array_equal(got, plain)


@pytest.mark.parametrize("mode", EXACT_MODES[1:3], ids=["f16", "f16-flash"])
def test_token_by_token_they_change_no_bit_either(model: TinyModel, mode: Mode) -> None:
    def logits(plan: ContextPlan | None) -> np.ndarray:
        with opened(model.path, 512, mode, with_plan(plan)) as context:
            return np.concatenate([context.decode([token], i) for i, token in enumerate(TOKENS[:64])])

    assert np.array_equal(logits(windows_plan((60, 0, 80, 60), 4)), logits(None))


def test_one_window_for_all_that_is_removed_again_leaves_no_trace(model: TinyModel) -> None:
    def set_and_remove(handle: llama_cpp.llama_model_p) -> None:
        context_plan.set_plan(handle, windows_plan((16,) * 4))
        context_plan.set_plan(handle, None)

    plain = opened_logits(model.path, TOKENS)
    with opened(model.path, len(TOKENS), prepare=set_and_remove) as context:
        assert np.array_equal(context.decode(TOKENS), plain)


def static(plan: ContextPlan) -> ContextPlan:
    """With factors, rising from 1 to 4, and an attention factor."""
    factors = tuple(4.0 ** (np.arange(N_PAIRS) / (N_PAIRS - 1)))
    return replace(plan, schedule=(ScheduleStep(TARGET_LENGTH, factors, 1.1),))


def factors_in_force(model: TinyModel, plan: ContextPlan, m: Float64, length: int) -> Positions:
    """What the plan's numbers make of positions; pairs from `first_pair` see m mod period."""
    theta = plain_frequencies(model)
    attention_factor = 1.0
    if plan.schedule:
        step = next((s for s in plan.schedule if s.up_to_length >= length), plan.schedule[-1])
        theta, attention_factor = theta / np.asarray(step.frequency_factors), step.attention_factor
    angles = np.outer(m, theta)
    if plan.position_map.kind is PositionKind.PERIODIC:
        mapped = np.arange(N_PAIRS) >= plan.position_map.first_pair
        angles = np.where(mapped, np.outer(m % plan.position_map.period, theta), angles)
    query = np.maximum(1.0, np.log(m + 1.0) / np.log(plan.logn_length)) if plan.logn_length else None
    return Positions(angles, attention_factor, query)


def in_force(model: TinyModel, plan: ContextPlan) -> InForce:
    return lambda layer, m: factors_in_force(model, plan, m, TARGET_LENGTH)


PERIODIC = PositionMap(PositionKind.PERIODIC, TRAIN_LENGTH, 3)
BASE = windows_plan(WINDOWS, SINKS)
STEPS = tuple(
    ScheduleStep(length, tuple((length / 64) ** (np.arange(N_PAIRS) / (N_PAIRS - 1))), 1.0 + length / 2000)
    for length in (64, 96, 144, 256)
)
COMPOSED = {
    "logn": replace(BASE, logn_length=TRAIN_LENGTH),
    "factors": static(BASE),
    "periodic": replace(static(BASE), position_map=PERIODIC),
    "periodic+logn": replace(static(BASE), position_map=PERIODIC, logn_length=TRAIN_LENGTH),
}


@pytest.mark.parametrize("name", COMPOSED)
def test_composed(model: TinyModel, name: str) -> None:
    plan = COMPOSED[name]
    want = windowed_logits(model, TOKENS, WINDOWS, SINKS, in_force(model, plan))
    with opened(model.path, 512, Mode(ubatch_size=48), with_plan(plan)) as context:
        parts = [context.decode(TOKENS[:350])]
        parts += [context.decode([token], i) for i, token in enumerate(TOKENS[350:], 350)]
    assert largest_difference(np.concatenate(parts), want) <= BOUND
    without = windowed_logits(model, TOKENS, (0,) * 4, 0, in_force(model, plan))
    assert largest_difference(without, want) > 100 * BOUND


@pytest.mark.parametrize("name", COMPOSED)
def test_composed_and_shifted(model: TinyModel, name: str) -> None:
    plan = COMPOSED[name]
    oracle = WindowedMemory(model, WINDOWS, SINKS, in_force(model, plan))
    with opened(model.path, 512, Mode(ubatch_size=48), with_plan(plan)) as context:
        context.decode(TOKENS[:330])
        oracle.decode(TOKENS[:330])
        for cut in (70, 90):
            assert llama_cpp.llama_memory_seq_rm(context.memory, 0, SINKS, cut)
            llama_cpp.llama_memory_seq_add(context.memory, 0, cut, -1, SINKS - cut)
            oracle.remove(0, SINKS, cut)
            oracle.shift(0, cut, SINKS - cut)
        start = 330 - (70 - SINKS) - (90 - SINKS)
        got = context.decode(TOKENS[330:], start)
    assert largest_difference(got, oracle.read(TOKENS[330:], start)) <= BOUND


@pytest.mark.parametrize("mapped", [False, True], ids=["identity", "periodic"])
@pytest.mark.parametrize("windows", [WINDOWS, (16, 24, 33, 16)], ids=["mixed", "all"])
@pytest.mark.parametrize("batches", [[400], [60, 10, 70, 60, 100, 100], [40, *[1] * 250]])
def test_a_schedule_turns_the_keys_of_every_cache(
    model: TinyModel, batches: list[int], windows: tuple[int, ...], mapped: bool
) -> None:
    plan = replace(
        windows_plan(windows, SINKS), schedule=STEPS, position_map=PERIODIC if mapped else PositionMap()
    )
    length = 0
    oracle = WindowedMemory(model, windows, SINKS, lambda layer, m: factors_in_force(model, plan, m, length))
    start = 0
    with opened(model.path, 512, Mode(ubatch_size=48), with_plan(plan)) as context:
        for size in batches:
            length = start + size
            part = TOKENS[start:length]
            assert largest_difference(context.decode(part, start), oracle.read(part, start)) <= BOUND
            start = length


@pytest.mark.parametrize(
    ("method", "made"), [("dprope+windows", dprope), ("dprope+windows+logn", with_logn(dprope))]
)
def test_baked(model: TinyModel, method: str, made: object, tmp_path: Path) -> None:
    """The whole way: the method's plan in a file, read by the library."""
    assert callable(made)
    target = tmp_path / "baked.gguf"
    bake(
        model.path,
        target,
        method=method,
        target_length=TARGET_LENGTH,
        options={"windows": "16/0/33/16", "sinks": str(SINKS)},
    )
    want = windowed_logits(model, TOKENS, WINDOWS, SINKS, lambda layer, m: made(model, TARGET_LENGTH, m))
    assert largest_difference(opened_logits(target, TOKENS), want) <= BOUND


def reused(context: LoadedContext) -> int:
    """Graphs that were computed again instead of being built, so far."""
    return int(llama_cpp.llama_perf_context(context.context).n_reused)


def test_graphs_are_reused_as_without_a_plan(model: TinyModel) -> None:
    def count(plan: ContextPlan | None) -> int:
        with opened(model.path, 1024, Mode(ubatch_size=48), with_plan(plan)) as context:
            context.decode(TOKENS[:100])
            before = reused(context)
            for start in range(100, 400):
                decode_rows(context, in_sequence(TOKENS[start : start + 1], start))
            return reused(context) - before

    without = count(None)
    assert without >= 290
    assert count(windows_plan(WINDOWS, SINKS)) == without
    assert count(replace(static(BASE), position_map=PERIODIC, logn_length=TRAIN_LENGTH)) == without
