"""What tells one model, plan and length from another."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ropewalk.backend import context_plan
from ropewalk.backend.context import Context, ContextParams
from ropewalk.backend.model import Model
from ropewalk.engine import EngineOptions, ModelDescription
from ropewalk.sessions.fingerprint import ModelFingerprint, model_fingerprint
from ropewalk.sessions.snapshot_key import plan_digest, snapshot_key
from ropewalk_plan import ContextPlan, GgufHeader, ScheduleStep
from ropewalk_plan.plan import PositionKind, PositionMap
from split_models import write_split_model
from tiny_models import Array, write_tiny_model

FACTORS = tuple(float(f) for f in np.linspace(1.0, 3.0, 8))
DYNAMIC = ContextPlan(
    "test",
    64,
    256,
    schedule=tuple(
        ScheduleStep(length, tuple(f * length / 64 for f in FACTORS)) for length in (64, 100, 256)
    ),
)
FINGERPRINT = ModelFingerprint("f" * 32, 0)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "fingerprints"


def digest(path: Path, cache: Path) -> str:
    return model_fingerprint(path, cache).digest


def test_a_copy_elsewhere_is_the_same_model(tmp_path: Path, cache: Path) -> None:
    first = write_tiny_model(tmp_path / "first.gguf").path
    copy = tmp_path / "elsewhere" / "renamed.gguf"
    copy.parent.mkdir()
    shutil.copyfile(first, copy)
    assert digest(copy, cache) == digest(first, cache)
    assert len(digest(first, cache)) == 32


def test_every_single_tensor_and_key_tells_models_apart(tmp_path: Path, cache: Path) -> None:
    plain = write_tiny_model(tmp_path / "plain.gguf")
    found = {digest(plain.path, cache)}

    def change(name: str) -> Callable[[dict[str, Array]], None]:
        def changed(tensors: dict[str, Array]) -> None:
            tensors[name] *= 1.25

        return changed

    for name in plain.tensors:
        found.add(digest(write_tiny_model(tmp_path / "m.gguf", change_tensors=change(name)).path, cache))
    found.add(
        digest(
            write_tiny_model(tmp_path / "m.gguf", extra_keys=lambda writer: writer.add_author("x")).path,
            cache,
        )
    )
    assert len(found) == len(plain.tensors) + 2


def test_what_was_found_is_remembered_until_a_part_changes(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = write_split_model(tmp_path).parts
    assert len(parts) > 2
    read: list[Path] = []
    read_header = GgufHeader.read

    def counting(path: Path) -> GgufHeader:
        read.append(path)
        return read_header(path)

    monkeypatch.setattr(GgufHeader, "read", counting)
    first = model_fingerprint(parts[0], cache)
    assert model_fingerprint(parts[0], cache) == first
    assert len(read) == 1
    data = bytearray(parts[-1].read_bytes())
    tensor = read_header(parts[0]).files[-1]
    data[tensor.data_start + next(iter(tensor.tensors.values())).offset] ^= 1
    parts[-1].write_bytes(data)
    assert model_fingerprint(parts[0], cache) != first
    assert len(read) == 2
    os.utime(parts[1], (1, 1))
    model_fingerprint(parts[0], cache)
    assert len(read) == 3
    (remembered,) = cache.iterdir()
    for damage in (b"", b"[]", b"{}", b"\xff", json.dumps({"schema": 1}).encode()):
        remembered.write_bytes(damage)
        assert model_fingerprint(parts[0], cache) != first
    assert len(read) == 8


def test_a_model_written_over_another_with_its_size_and_time_is_noticed(tmp_path: Path, cache: Path) -> None:
    """As `cp` onto it and `touch -r` do, the same inode included."""
    path = write_tiny_model(tmp_path / "model.gguf", seed=0).path
    other = write_tiny_model(tmp_path / "other.gguf", seed=1).path
    first = model_fingerprint(path, cache)
    before = path.stat()
    with path.open("r+b") as file:
        file.write(other.read_bytes())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    for same in ("st_size", "st_mtime_ns", "st_ino"):
        assert getattr(path.stat(), same) == getattr(before, same)
    assert model_fingerprint(path, cache) == model_fingerprint(other, cache) != first


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = write_tiny_model(tmp_path / "model.gguf").path
    assert digest(path, tmp_path / "file" / "cache") == digest(path, tmp_path / "cache")


CHANGES: dict[str, Callable[[ContextPlan], ContextPlan]] = {
    "target": lambda p: dataclasses.replace(
        p, target_length=512, schedule=(*p.schedule[:2], dataclasses.replace(p.schedule[2], up_to_length=512))
    ),
    "train": lambda p: dataclasses.replace(p, train_length=63),
    "factor": lambda p: dataclasses.replace(
        p,
        schedule=(
            *p.schedule[:2],
            dataclasses.replace(
                p.schedule[2],
                frequency_factors=(
                    *p.schedule[2].frequency_factors[:-1],
                    float(np.nextafter(np.float32(p.schedule[2].frequency_factors[-1]), np.float32(99))),
                ),
            ),
        ),
    ),
    "attention": lambda p: dataclasses.replace(
        p, schedule=(*p.schedule[:2], dataclasses.replace(p.schedule[2], attention_factor=1.5))
    ),
    "layers": lambda p: dataclasses.replace(p, rope_layers=(0,)),
    "map": lambda p: dataclasses.replace(p, position_map=PositionMap(PositionKind.PERIODIC, 64, 2)),
    "mirror": lambda p: dataclasses.replace(p, position_map=PositionMap(PositionKind.MIRRORED, 64, 2)),
    "logn": lambda p: dataclasses.replace(p, logn_length=64),
    "windows": lambda p: dataclasses.replace(p, windows=(32, 0)),
    "sinks": lambda p: dataclasses.replace(p, windows=(32, 0), sinks=4),
}


def test_every_number_of_a_plan_tells_plans_apart_and_its_name_does_not() -> None:
    digests = {name: plan_digest(change(DYNAMIC)) for name, change in CHANGES.items()}
    digests |= {"none": plan_digest(None), "itself": plan_digest(DYNAMIC)}
    assert len(set(digests.values())) == len(CHANGES) + 2
    assert digests["none"] == "none"
    assert plan_digest(dataclasses.replace(DYNAMIC, method="x", options="a=1")) == digests["itself"]
    rolls_back = {
        name: snapshot_key(described(change(DYNAMIC)), EngineOptions(512), 9, FINGERPRINT).rolls_back
        for name, change in CHANGES.items()
    }
    assert {name for name, can in rolls_back.items() if not can} == {"windows", "sinks"}


def described(plan: ContextPlan | None, n_ctx: int = 512, *, native: bool = False) -> ModelDescription:
    return ModelDescription(
        path=Path("model.gguf"),
        architecture="llama",
        n_layer=2,
        n_params=1,
        size_bytes=1,
        train_length=64,
        target_length=256,
        vocab_size=100,
        has_chat_template=False,
        plan=plan,
        native=native,
        n_ctx=n_ctx,
    )


@pytest.mark.usefixtures("patched_library")
@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
def test_the_step_is_the_one_that_the_library_puts_in_force(tmp_path: Path, kv_type: str) -> None:
    model = Model.load(write_tiny_model(tmp_path / "model.gguf", head_dim=32).path)
    schedule = tuple(
        dataclasses.replace(s, frequency_factors=s.frequency_factors * 2) for s in DYNAMIC.schedule
    )
    plan = dataclasses.replace(DYNAMIC, schedule=schedule)
    model.set_plan(plan)
    for n_ctx in (80, 300):
        for length in (1, 63, 64, 65, 80, 99, 100, 101, 256, 257, 300):
            if length > n_ctx:
                continue
            context = Context(model, ContextParams(n_ctx=n_ctx, kv_type=kv_type, threads=1))
            try:
                assert context.reserve(length)
                in_force = context_plan.length_in_force(context.handle)
            finally:
                context.close()
            options = EngineOptions(n_ctx, kv_type=kv_type)
            found = snapshot_key(described(plan, n_ctx), options, length, FINGERPRINT)
            assert schedule[found.step].up_to_length == in_force
    model.close()


def test_a_files_own_long_factors_count_by_the_contexts_length(tmp_path: Path, cache: Path) -> None:
    def longrope(tensors: dict[str, Array]) -> None:
        tensors["rope_factors_long.weight"] = np.full(8, 2.0, np.float32)
        tensors["rope_factors_short.weight"] = np.ones(8, np.float32)

    path = write_tiny_model(tmp_path / "long.gguf", change_tensors=longrope, train_length=512).path
    found = model_fingerprint(path, cache)
    assert found.long_above == 512
    assert model_fingerprint(path, cache) == found

    def step(plan: ContextPlan | None, n_ctx: int, *, native: bool = False) -> int:
        key = snapshot_key(described(plan, n_ctx, native=native), EngineOptions(n_ctx), 20, found)
        return key.step

    assert [step(None, n_ctx) for n_ctx in (100, 256, 511, 512, 513, 768)] == [0, 0, 0, 0, 1, 1]
    assert [step(DYNAMIC, n_ctx, native=True) for n_ctx in (512, 768)] == [0, 1]
    assert [step(DYNAMIC, n_ctx) for n_ctx in (512, 768)] == [0, 0], "the plan's own factors"
    plain = write_tiny_model(tmp_path / "plain.gguf").path
    assert model_fingerprint(plain, cache).long_above == 0


def test_a_key_says_how_a_text_is_read(tmp_path: Path) -> None:
    options = EngineOptions(512)
    found = snapshot_key(described(None), options, 100, FINGERPRINT)
    assert found.model_name == "model.gguf"
    assert "snapshots" in found.library
    others = [
        snapshot_key(described(None), options, 100, ModelFingerprint("e" * 32, 0)),
        snapshot_key(described(DYNAMIC), options, 10, FINGERPRINT),
        snapshot_key(described(DYNAMIC), options, 200, FINGERPRINT),
        snapshot_key(described(None), dataclasses.replace(options, kv_type="q8_0"), 100, FINGERPRINT),
        snapshot_key(described(None), dataclasses.replace(options, flash_attention="on"), 100, FINGERPRINT),
    ]
    assert len({key.digest for key in [found, *others]}) == 6
