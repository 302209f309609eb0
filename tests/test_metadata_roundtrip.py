"""Plans written into files and read back: bit for bit, by our reader and by the `gguf` package's."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
from gguf import GGUFReader
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gguf_files import write_rope_keys
from ropewalk_convert.gguf_copy import GgufCopy
from ropewalk_plan import (
    METHODS,
    ContextPlan,
    FileChanges,
    GgufHeader,
    PlanError,
    PositionKind,
    PositionMap,
    ScheduleStep,
    make_plan,
    model_facts_from_gguf,
    plan_to_metadata,
    read_plan,
    rope_spec_from_gguf,
)

N_PAIRS = 4
WRITES_FILES = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
factors = st.lists(st.floats(1e-3, 1e29), min_size=N_PAIRS, max_size=N_PAIRS)


@st.composite
def plans(draw: st.DrawFn) -> ContextPlan:
    lengths = sorted(draw(st.sets(st.integers(65, 2**20), min_size=1, max_size=4)))
    steps = tuple(ScheduleStep(length, tuple(draw(factors)), draw(st.floats(0.1, 3.0))) for length in lengths)
    schedule = draw(st.sampled_from([steps, ()]))
    windows = draw(st.sampled_from([(), (0, 128), (64, 64)]))
    streaming = len(schedule) == 1 and bool(windows) and all(windows) and draw(st.booleans())
    kind = draw(st.sampled_from(PositionKind)) if schedule and not streaming else PositionKind.IDENTITY
    position_map = PositionMap()
    if kind is not PositionKind.IDENTITY:
        period = 2 * draw(st.integers(1, 2**20))
        position_map = PositionMap(kind, period, draw(st.integers(0, N_PAIRS - 1)))
    return ContextPlan(
        method=draw(st.text(max_size=20)),
        options=draw(st.text(max_size=20)),
        train_length=64,
        target_length=lengths[-1],
        schedule=schedule,
        rope_layers=None if streaming else draw(st.sampled_from([None, (0,), (0, 1)])),
        position_map=position_map,
        logn_length=0 if streaming else draw(st.sampled_from([0, 2, 64])),
        windows=windows,
        sinks=draw(st.integers(0, 9)) if windows else 0,
        streaming=streaming,
    )


def with_changes(source: Path, changes: FileChanges, target: Path) -> Path:
    copy = GgufCopy(GgufHeader.read(source), changes)
    with target.open("wb") as file:
        for _ in copy.write(file.write):
            pass
    assert target.stat().st_size == copy.total_bytes
    return target


def with_plan(source: Path, plan: ContextPlan, target: Path) -> Path:
    header = GgufHeader.read(source)
    changes = plan_to_metadata(plan, rope_spec_from_gguf(header), model_facts_from_gguf(header))
    return with_changes(source, changes, target)


@WRITES_FILES
@given(plan=plans())
def test_plans_survive_bit_for_bit(plan: ContextPlan, tmp_path: Path) -> None:
    source = write_rope_keys(tmp_path / "plain.gguf", n_rot=2 * N_PAIRS, context_length=64)
    path = with_plan(source, plan, tmp_path / "planned.gguf")
    stored = read_plan(GgufHeader.read(path))
    assert stored is not None
    assert stored.plan == plan
    assert read_plan(GGUFReader(str(path))) == stored


@WRITES_FILES
@given(
    method=st.sampled_from(
        [*sorted(METHODS.keys() - {"longrope"}), "dynamic-ntk+logn+windows", "dprope+windows", "pi+streaming"]
    ),
    stretch=st.floats(1.0, 40.0),
    base=st.floats(1000.0, 500000.0),
)
def test_plans_of_every_method_survive(method: str, stretch: float, base: float, tmp_path: Path) -> None:
    source = write_rope_keys(tmp_path / "plain.gguf", base=base)
    spec = rope_spec_from_gguf(GgufHeader.read(source))
    plan = make_plan(spec, method, math.ceil(spec.train_length * stretch))
    stored = read_plan(GgufHeader.read(with_plan(source, plan, tmp_path / "planned.gguf")))
    assert stored is not None
    assert stored.plan == plan


@pytest.mark.parametrize("arch", ["llama", "phi3"])
def test_a_plan_of_longrope_survives_and_is_not_native(tmp_path: Path, arch: str) -> None:
    """Stock chooses between the two lists by the size of the context, the plan by the length of the text."""
    lists = tmp_path / "lists.json"
    lists.write_text(
        json.dumps(
            {"short_factor": [1 + i / 100 for i in range(32)], "long_factor": [1.1**i for i in range(32)]}
        )
    )
    source = write_rope_keys(tmp_path / "plain.gguf", arch)
    spec = rope_spec_from_gguf(GgufHeader.read(source))
    plan = make_plan(spec, "longrope", 8192, options={"factors": str(lists)})
    assert len(plan.schedule) == 2
    stored = read_plan(GgufHeader.read(with_plan(source, plan, tmp_path / "planned.gguf")))
    assert stored is not None
    assert (stored.plan, stored.native) == (plan, False)
    assert "by the size of the context" in stored.native_reason


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("dynamic-ntk", "frequencies that change with the length"),
        ("dynamic-yarn", "frequencies that change with the length"),
        ("windows", "windows of our own"),
        ("streaming", "a rolling window with sinks before it"),
    ],
)
def test_what_no_key_of_llama_cpp_says(tmp_path: Path, method: str, reason: str) -> None:
    source = write_rope_keys(tmp_path / "plain.gguf", "qwen2")
    spec = rope_spec_from_gguf(GgufHeader.read(source))
    stored = read_plan(
        GgufHeader.read(with_plan(source, make_plan(spec, method, 8192), tmp_path / "planned.gguf"))
    )
    assert stored is not None
    assert not stored.native
    assert f"no key for {reason}" in stored.native_reason


@pytest.mark.parametrize("method", ["abf", "small-base"])
def test_another_base_is_native_everywhere(tmp_path: Path, method: str) -> None:
    source = write_rope_keys(tmp_path / "plain.gguf", "qwen2")
    spec = rope_spec_from_gguf(GgufHeader.read(source))
    path = with_plan(source, make_plan(spec, method, 8192), tmp_path / "planned.gguf")
    stored = read_plan(GgufHeader.read(path))
    assert stored is not None
    assert stored.native
    assert GgufHeader.read(path).value("qwen2.rope.freq_base") == pytest.approx(
        {"abf": 1e6, "small-base": 500.0}[method], rel=1e-6
    )
    assert stored.rope_base == 10000.0


@pytest.mark.parametrize(
    "method",
    [
        "none",
        "pi",
        "ntk",
        "ntk-by-parts",
        "yarn",
        "dprope",
        "extra-mpe",
        "dprope+logn",
        "dynamic-ntk",
        "streaming",
    ],
)
@pytest.mark.parametrize("arch", ["llama", "qwen2"])
def test_the_reason_reads_back_as_it_was_told(tmp_path: Path, method: str, arch: str) -> None:
    source = write_rope_keys(tmp_path / "plain.gguf", arch)
    header = GgufHeader.read(source)
    spec, facts = rope_spec_from_gguf(header), model_facts_from_gguf(header)
    plan = make_plan(spec, method, 8192)
    changes = plan_to_metadata(plan, spec, facts)
    stored = read_plan(GgufHeader.read(with_changes(source, changes, tmp_path / "planned.gguf")))
    assert stored is not None
    assert (stored.plan, stored.native) == (plan, changes.native)
    assert stored.native_reason == changes.native_reason
    assert stored.rope_base == spec.base  # what the factors are relative to, even where the base was raised


def test_a_plain_file_has_no_plan(tmp_path: Path) -> None:
    assert read_plan(GgufHeader.read(write_rope_keys(tmp_path / "plain.gguf"))) is None


def test_empty_lists_are_absent_keys(tmp_path: Path) -> None:
    source = write_rope_keys(tmp_path / "plain.gguf")
    spec = rope_spec_from_gguf(GgufHeader.read(source))
    path = with_plan(source, make_plan(spec, "logn", 8192), tmp_path / "planned.gguf")
    lists = ("rope.schedule_lengths", "rope.schedule_factors", "rope.layers", "attention.windows")
    assert not [name for name in lists if f"ropewalk.{name}" in GgufHeader.read(path).keys]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("ropewalk.schema", 2, "schema 2"),
        ("ropewalk.schema", 99, "schema 99"),
        ("ropewalk.train_length", None, "ropewalk.train_length"),
        ("ropewalk.position.kind", "spiral", "'spiral'"),
        ("ropewalk.rope.schedule_lengths", (4096, 8192), "does not fit the 2 steps"),
        ("ropewalk.rope.schedule_lengths", (4096,), "schedule lengths"),
        ("ropewalk.rope.schedule_factors", (2.0,) * 8, "factors for 8 pairs and the model has 32"),
        ("ropewalk.target_length", 7, "target_length is 7"),
        ("ropewalk.attention.windows", (64, 64, 64), "windows for 3 layers and the model has 2"),
    ],
)
def test_damaged_plans_are_refused_by_name(
    tmp_path: Path, key: str, value: int | str | tuple[float, ...] | None, message: str
) -> None:
    source = write_rope_keys(tmp_path / "plain.gguf")
    header = GgufHeader.read(source)
    spec = rope_spec_from_gguf(header)
    changes = plan_to_metadata(make_plan(spec, "yarn+windows", 8192), spec, model_facts_from_gguf(header))
    entries = [entry for entry in changes.keys if entry.key != key]
    if value is not None:
        original = next(entry for entry in changes.keys if entry.key == key)
        entries.append(dataclasses.replace(original, value=value))
    damaged = dataclasses.replace(changes, keys=tuple(entries))
    path = with_changes(source, damaged, tmp_path / "planned.gguf")
    with pytest.raises(PlanError) as error:
        read_plan(GgufHeader.read(path))
    assert message in str(error.value)


def test_lengths_that_no_key_can_hold_are_refused(tmp_path: Path) -> None:
    header = GgufHeader.read(write_rope_keys(tmp_path / "plain.gguf"))
    spec = rope_spec_from_gguf(header)
    with pytest.raises(PlanError, match="a length of the plan is 4294967296"):
        plan_to_metadata(make_plan(spec, "pi", 2**32), spec, model_facts_from_gguf(header))
