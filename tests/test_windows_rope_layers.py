"""New frequencies for the layers without a window alone: `rope_layers=full` of the method `windows`.

Oracle: the float64 cells of `windowed_memory`, each layer turned by what is in force there.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import llama_cpp
import numpy as np
import pytest

from cli_running import CommandLine
from library_logits import Mode
from method_oracles import Oracle, dprope, none, yarn
from reference_memory import InForce
from reference_transformer import Float64, Positions, plain_frequencies
from ropewalk.engine import Engine, EngineOptions
from ropewalk_convert import bake
from ropewalk_plan import (
    ContextPlan,
    GgufHeader,
    PlanError,
    PositionKind,
    PositionMap,
    RopeSpec,
    ScheduleStep,
    make_plan,
    read_plan,
)
from tiny_models import Architecture, TinyModel, write_tiny_model
from windowed_contexts import (
    TARGET_LENGTH,
    TRAIN_LENGTH,
    largest_difference,
    opened,
    opened_logits,
    random_tokens,
    windows_plan,
    with_plan,
)
from windowed_memory import WindowedMemory, windowed_logits

BOUND = 1e-3
SINKS = 2
WINDOWS = (16, 0, 33, 0)
FULL = (1, 3)
N_PAIRS = 8
TOKENS = random_tokens(330, seed=91)
NAMES: dict[Oracle, str] = {dprope: "dprope", yarn: "yarn"}
OPTIONS = {"windows": "/".join(map(str, WINDOWS)), "sinks": str(SINKS), "rope_layers": "full"}
SPEC = RopeSpec("llama", n_rot=64, base=10000.0, train_length=2048, n_layer=4)


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    arch: Architecture = request.param
    path = tmp_path_factory.mktemp("layers") / f"{arch}.gguf"
    return write_tiny_model(path, arch=arch, n_layer=4, train_length=TRAIN_LENGTH, seed=92)


@pytest.mark.parametrize("method", ["dprope", "yarn", "ntk", "extra-mpe", "dynamic-ntk"])
def test_the_plan_names_the_layers_without_a_window(method: str) -> None:
    options = {"windows": "512/0/256/0", "rope_layers": "full"}
    plan = make_plan(SPEC, f"{method}+windows", 8192, options=options)
    alone = make_plan(SPEC, method, 8192)
    assert plan.rope_layers == (1, 3)
    assert (plan.schedule, plan.position_map) == (alone.schedule, alone.position_map)
    assert (
        make_plan(SPEC, f"{method}+windows", 8192, options={**options, "rope_layers": "all"}).rope_layers
        is None
    )


def test_without_windows_every_layer_is_full() -> None:
    plan = make_plan(SPEC, "dprope+windows", 8192, options={"windows": "0", "rope_layers": "full"})
    assert (plan.windows, plan.rope_layers) == ((), None)


@pytest.mark.parametrize(
    ("method", "options", "named"),
    [
        ("dprope+windows", {"windows": "512"}, "rope_layers is full, and every layer has a window"),
        ("windows", {"windows": "512/0/256/0"}, "no method gives any; name one beside windows"),
        ("logn+windows", {"windows": "512/0/256/0"}, "no method gives any"),
        ("dprope+windows", {"rope_layers": "some"}, "option rope_layers is 'some'; it must be all or full"),
    ],
)
def test_refusals(method: str, options: dict[str, str], named: str) -> None:
    with pytest.raises(PlanError) as error:
        make_plan(SPEC, method, 8192, options={"rope_layers": "full", **options})
    assert named in str(error.value)


STEPS = tuple(
    ScheduleStep(length, tuple((length / 64) ** (np.arange(N_PAIRS) / (N_PAIRS - 1))), 1.0 + length / 2000)
    for length in (64, 96, 144, 256)
)
PLAN = replace(windows_plan(WINDOWS, SINKS), schedule=STEPS[-1:], rope_layers=FULL)
PERIODIC = replace(PLAN, position_map=PositionMap(PositionKind.PERIODIC, TRAIN_LENGTH, 3))
GROWING = replace(PLAN, schedule=STEPS)


def in_force(model: TinyModel, plan: ContextPlan, layer: int, m: Float64, length: int) -> Positions:
    """What the plan makes of positions in a layer; the layers that it does not name turn as trained."""
    theta = plain_frequencies(model)
    if layer not in FULL:
        return Positions(np.outer(m, theta))
    step = next((s for s in plan.schedule if s.up_to_length >= length), plan.schedule[-1])
    theta = theta / np.asarray(step.frequency_factors)
    angles = np.outer(m, theta)
    if plan.position_map.kind is PositionKind.PERIODIC:
        mapped = np.arange(N_PAIRS) >= plan.position_map.first_pair
        angles = np.where(mapped, np.outer(m % plan.position_map.period, theta), angles)
    return Positions(angles, step.attention_factor)


@pytest.mark.usefixtures("patched_library")
@pytest.mark.parametrize("plan", [PLAN, PERIODIC], ids=["factors", "periodic"])
def test_only_the_named_layers_turn_otherwise(model: TinyModel, plan: ContextPlan) -> None:
    force: InForce = lambda layer, m: in_force(model, plan, layer, m, TARGET_LENGTH)  # noqa: E731
    want = windowed_logits(model, TOKENS, WINDOWS, SINKS, force)
    with opened(model.path, 512, Mode(ubatch_size=48), with_plan(plan)) as context:
        parts = [context.decode(TOKENS[:300])]
        parts += [context.decode([token], i) for i, token in enumerate(TOKENS[300:], 300)]
    assert largest_difference(np.concatenate(parts), want) <= BOUND
    everywhere = opened_logits_of(model, replace(plan, rope_layers=None))
    assert largest_difference(everywhere, want) > 100 * BOUND


def opened_logits_of(model: TinyModel, plan: ContextPlan) -> np.ndarray:
    with opened(model.path, 512, Mode(ubatch_size=48), with_plan(plan)) as context:
        return context.decode(TOKENS)


@pytest.mark.usefixtures("patched_library")
def test_a_shift_turns_each_layers_keys_by_its_own_frequencies(model: TinyModel) -> None:
    force: InForce = lambda layer, m: in_force(model, PLAN, layer, m, TARGET_LENGTH)  # noqa: E731
    oracle = WindowedMemory(model, WINDOWS, SINKS, force)
    with opened(model.path, 512, Mode(ubatch_size=48), with_plan(PLAN)) as context:
        context.decode(TOKENS[:300])
        oracle.decode(TOKENS[:300])
        assert llama_cpp.llama_memory_seq_rm(context.memory, 0, SINKS, 70)
        llama_cpp.llama_memory_seq_add(context.memory, 0, 70, -1, SINKS - 70)
        oracle.remove(0, SINKS, 70)
        oracle.shift(0, 70, SINKS - 70)
        start = 300 - (70 - SINKS)
        got = context.decode(TOKENS[300:], start)
    assert largest_difference(got, oracle.read(TOKENS[300:], start)) <= BOUND


@pytest.mark.usefixtures("patched_library")
@pytest.mark.parametrize("batches", [[330], [60, 10, 70, 60, 100, 30], [40, *[1] * 60]])
def test_a_schedule_turns_the_keys_of_the_named_layers(model: TinyModel, batches: list[int]) -> None:
    length = 0
    oracle = WindowedMemory(
        model, WINDOWS, SINKS, lambda layer, m: in_force(model, GROWING, layer, m, length)
    )
    with opened(model.path, 512, Mode(ubatch_size=48), with_plan(GROWING)) as context:
        start = 0
        for size in batches:
            length = start + size
            part = TOKENS[start:length]
            assert largest_difference(context.decode(part, start), oracle.read(part, start)) <= BOUND
            start = length


@pytest.mark.usefixtures("patched_library")
@pytest.mark.parametrize("made", [dprope, yarn])
def test_baked_inspected_and_run(
    model: TinyModel,
    made: Oracle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The whole way: the plan in a file, told by `inspect`, executed by the library and by the engine."""
    target = tmp_path / "baked.gguf"
    bake(model.path, target, method=f"{NAMES[made]}+windows", target_length=TARGET_LENGTH, options=OPTIONS)

    def force(layer: int, m: Float64) -> Positions:
        return (none if WINDOWS[layer] else made)(model, TARGET_LENGTH, m)

    want = windowed_logits(model, TOKENS, WINDOWS, SINKS, force)
    assert largest_difference(opened_logits(target, TOKENS), want) <= BOUND

    stored = read_plan(GgufHeader.read(target))
    assert stored is not None and (stored.plan.rope_layers, stored.native) == (FULL, False)
    command = CommandLine(monkeypatch, capfd)
    told = command("inspect", target)
    assert told.exit_code == 0
    assert any(line.split() == ["layers", "1,", "3"] for line in told.stdout.splitlines()), told.stdout
    assert json.loads(command("inspect", target, "--json").stdout)["plan"]["rope_layers"] == list(FULL)

    with Engine.start() as engine:
        engine.load(target, EngineOptions(n_ctx=512, threads=1, kv_type="f32"))
        engine.prefill(TOKENS)
        generation = engine.generate(1, stop_at_eog=False)
        list(generation)
        assert generation.result.token_ids == (int(np.argmax(want[-1])),)
