"""Bake: what is copied, what is changed, and what is left behind when something goes wrong."""

from __future__ import annotations

import errno
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gguf_files import write_rope_keys
from ropewalk_convert import BakeResult, SourceError, SpaceError, TargetError, bake
from ropewalk_plan import GgufHeader, PlanError, make_plan, read_plan, rope_spec_from_gguf
from tiny_models import TinyModel, write_tiny_model

TRAIN, TARGET = 64, 256
PLAN_TENSOR = "rope_freqs.weight"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    path = tmp_path_factory.mktemp("plain") / "plain.gguf"
    return write_tiny_model(path, arch="llama", train_length=TRAIN, chat_template="{{ messages }}")


def bake_to(model: TinyModel, target: Path, method: str = "dprope", *, force: bool = False) -> BakeResult:
    return bake(model.path, target, method=method, target_length=TARGET, force=force)


def contents(path: Path) -> tuple[dict[str, object], dict[str, tuple[object, ...]]]:
    """Every key and every tensor's type, shape and bytes, by the `gguf` package."""
    reader = GGUFReader(str(path))
    keys: dict[str, object] = {
        name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")
    }
    tensors: dict[str, tuple[object, ...]] = {
        t.name: (t.tensor_type, tuple(t.shape), t.data.tobytes()) for t in reader.tensors
    }
    return keys, tensors


@pytest.mark.parametrize("method", ["none", "pi", "ntk", "yarn", "dprope", "extra-pe", "dprope+logn"])
def test_everything_else_stays_byte_for_byte(model: TinyModel, tmp_path: Path, method: str) -> None:
    result = bake_to(model, tmp_path / "baked.gguf", method)
    keys, tensors = contents(model.path)
    baked_keys, baked_tensors = contents(result.target)
    ours = {name for name in baked_keys if name.startswith("ropewalk.")}
    rotation = {name for name in baked_keys if ".rope." in name or name == "llama.context_length"}
    card = {"general.description", "general.base_model.count", "general.base_model.0.name"}
    touched = ours | card | rotation if result.native else ours | card
    assert {k: v for k, v in baked_keys.items() if k not in touched} == {
        k: v for k, v in keys.items() if k not in touched
    }
    baked_tensors.pop(PLAN_TENSOR, None)
    assert baked_tensors == tensors
    kept = [name for name in baked_keys if name in keys]
    assert kept == [name for name in keys if name in baked_keys]  # in their order
    assert [t for t in baked_tensors if t != PLAN_TENSOR] == list(tensors)


def test_the_file_holds_the_plan_that_was_made(model: TinyModel, tmp_path: Path) -> None:
    result = bake_to(model, tmp_path / "baked.gguf")
    expected = make_plan(rope_spec_from_gguf(GgufHeader.read(model.path)), "dprope", TARGET)
    stored = read_plan(GgufHeader.read(result.target))
    assert stored is not None
    assert stored.plan == result.plan == expected
    assert (stored.native, stored.native_reason) == (result.native, result.native_reason)
    _, tensors = contents(result.target)
    assert tensors[PLAN_TENSOR][2] == np.array(expected.frequency_factors, np.float32).tobytes()


def test_a_factors_tensor_is_replaced_where_it_lies(tmp_path: Path) -> None:
    own = np.linspace(1, 4, 32, dtype=np.float32)
    tensors = {PLAN_TENSOR: own, "token_embd.weight": np.arange(96, dtype=np.float32).reshape(3, 32)}
    source = write_rope_keys(tmp_path / "plain.gguf", tensors=tensors)
    baked = bake(source, tmp_path / "baked.gguf", method="pi", target_length=4096).target
    before, after = contents(source)[1], contents(baked)[1]
    assert list(after) == list(before)
    assert after["token_embd.weight"] == before["token_embd.weight"]
    assert after[PLAN_TENSOR][2] == (2 * own).tobytes()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(chunk=st.integers(1, 5000))
def test_chunk_borders_do_not_show(chunk: int, tmp_path: Path) -> None:
    """A patched tensor may straddle chunks."""
    own = np.linspace(1, 4, 32, dtype=np.float32)
    tensors = {"a": np.ones((2, 32), np.float32), PLAN_TENSOR: own, "b": np.ones((5, 32), np.float32)}
    source = write_rope_keys(tmp_path / "plain.gguf", tensors=tensors)
    with pytest.MonkeyPatch.context() as patch:
        whole = bake(source, tmp_path / "whole.gguf", method="pi", target_length=4096, force=True).target
        patch.setattr("ropewalk_convert.pieces.CHUNK", chunk)
        pieces = bake(source, tmp_path / "pieces.gguf", method="pi", target_length=4096, force=True).target
    assert pieces.read_bytes() == whole.read_bytes()


def test_keys_of_every_type_pass_through(tmp_path: Path) -> None:
    """Nested and empty arrays, which writers of keys get wrong, are copied as the bytes they are."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    strange = {
        "x.empty": struct.pack("<IIQ", 9, 8, 0),
        "x.nested": struct.pack("<IIQ", 9, 9, 2)
        + struct.pack("<IQii", 5, 2, -1, 7)
        + struct.pack("<IQ", 8, 1)
        + text("end"),
        "x.f64": struct.pack("<Id", 12, 0.1),
        "x.i8": struct.pack("<Ib", 1, -3),
        "x.bools": struct.pack("<IIQ???", 9, 7, 3, True, False, True),
    }
    plain = write_rope_keys(tmp_path / "simple.gguf")
    header = GgufHeader.read(plain)
    raw = plain.read_bytes()
    keys = b"".join(raw[s.start : s.end] for s in header.keys.values())
    extra = b"".join(text(name) + value for name, value in strange.items())
    infos = b"".join(raw[t.info_start : t.info_end] for t in header.tensors.values())
    n_keys = len(header.keys) + len(strange)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(header.tensors), n_keys) + keys + extra + infos
    source = tmp_path / "strange.gguf"
    source.write_bytes(head + bytes(-len(head) % 32) + raw[header.data_start :])

    baked = bake(source, tmp_path / "baked.gguf", method="extra-pe", target_length=4096).target
    assert extra in baked.read_bytes()
    copied = GgufHeader.read(baked)
    assert copied.value("x.nested") == [[-1, 7], ["end"]]
    assert copied.value("x.empty") == []
    assert copied.value("x.bools") == [True, False, True]


def test_alignment_is_kept(tmp_path: Path) -> None:
    writer = GGUFWriter(str(tmp_path / "plain.gguf"), "llama")
    writer.add_custom_alignment(128)
    writer.add_context_length(2048)
    writer.add_block_count(1)
    writer.add_rope_dimension_count(64)
    for name in ("a", "b"):
        writer.add_tensor(name, np.arange(33, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    baked = bake(tmp_path / "plain.gguf", tmp_path / "baked.gguf", method="dprope", target_length=4096).target
    reader = GGUFReader(str(baked))
    assert reader.alignment == 128
    assert [t.name for t in reader.tensors] == ["a", "b", PLAN_TENSOR]
    assert all(t.data_offset % 128 == 0 for t in reader.tensors)
    assert np.array_equal(reader.tensors[1].data, np.arange(33, dtype=np.float32))


def test_progress_runs_to_the_size_of_the_file(model: TinyModel, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    target = tmp_path / "baked.gguf"
    bake(
        model.path,
        target,
        method="pi",
        target_length=TARGET,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (target.stat().st_size, target.stat().st_size)


def test_notes_name_what_needs_fine_tuning(model: TinyModel, tmp_path: Path) -> None:
    assert bake_to(model, tmp_path / "a.gguf", "dprope").notes == ()
    (note,) = bake_to(model, tmp_path / "b.gguf", "extra-pe").notes
    assert "extra-pe needs a model fine-tuned" in note


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, BrokenPipeError])
@pytest.mark.parametrize("existing", [True, False])
def test_an_interrupted_bake_leaves_everything_as_it_was(
    model: TinyModel,
    tmp_path: Path,
    error: type[BaseException],
    existing: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ropewalk_convert.pieces.CHUNK", 10_000)
    target = tmp_path / "baked.gguf"
    if existing:
        target.write_bytes(b"precious")

    def stop(done: int, total: int) -> None:
        if done > total / 2:
            raise error

    with pytest.raises(error):
        bake(model.path, target, method="pi", target_length=TARGET, force=True, progress=stop)
    assert [p.name for p in tmp_path.iterdir()] == (["baked.gguf"] if existing else [])
    assert not existing or target.read_bytes() == b"precious"


class _FullDisk:
    """A file on a disk that has room for `room` bytes."""

    def __init__(self, path: Path, room: int) -> None:
        self._file = path.open("wb")
        self._room = room

    def write(self, data: bytes) -> None:
        self._room -= len(data)
        if self._room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._file.write(data)

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)


def test_a_disk_that_fills_up(model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain_open = Path.open

    def small_disk(path: Path, mode: str = "r", *args: object, **options: object) -> object:
        if mode != "xb":
            return plain_open(path, mode, *args, **options)  # type: ignore[call-overload]  # any mode
        monkeypatch.setattr(Path, "open", plain_open)
        return _FullDisk(path, room=100_000)

    monkeypatch.setattr(Path, "open", small_disk)
    with pytest.raises(SpaceError) as error:
        bake_to(model, tmp_path / "baked.gguf")
    assert "baked.gguf" in str(error.value) and "kB" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_too_little_space_is_told_before_anything_is_written(
    model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("ropewalk_convert.target.shutil.disk_usage", lambda _: usage)
    with pytest.raises(SpaceError, match=r"needs \d+\.\d kB and its disk has 1\.0 kB free"):
        bake_to(model, tmp_path / "baked.gguf")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_target_needs_force(model: TinyModel, tmp_path: Path) -> None:
    target = tmp_path / "baked.gguf"
    target.write_bytes(b"precious")
    with pytest.raises(TargetError, match=r"baked\.gguf exists already.*--force"):
        bake_to(model, target)
    assert target.read_bytes() == b"precious"
    assert bake_to(model, target, force=True).target == target
    assert read_plan(GgufHeader.read(target)) is not None
    assert [p.name for p in tmp_path.iterdir()] == ["baked.gguf"]


def test_a_target_that_appears_meanwhile_is_not_replaced(model: TinyModel, tmp_path: Path) -> None:
    target = tmp_path / "baked.gguf"

    def someone_else(done: int, total: int) -> None:
        target.write_bytes(b"precious")

    with pytest.raises(TargetError, match="appeared meanwhile"):
        bake(model.path, target, method="pi", target_length=TARGET, progress=someone_else)
    assert target.read_bytes() == b"precious"
    assert [p.name for p in tmp_path.iterdir()] == ["baked.gguf"]


@pytest.mark.parametrize("link", [None, os.symlink, os.link])
def test_the_source_is_never_the_target(
    model: TinyModel, tmp_path: Path, link: Callable[[Path, Path], None] | None
) -> None:
    target = tmp_path / "alias.gguf"
    if link is None:
        target = model.path
    else:
        link(model.path, target)
    with pytest.raises(TargetError, match="is the source itself"):
        bake_to(model, target, force=True)
    assert GgufHeader.read(model.path).value("ropewalk.schema") is None


def test_impossible_targets(model: TinyModel, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"the folder .*nowhere does not exist"):
        bake_to(model, tmp_path / "nowhere" / "baked.gguf")
    with pytest.raises(TargetError, match="is a folder"):
        bake_to(model, tmp_path, force=True)
    with pytest.raises(TargetError, match="cannot be written"):
        bake_to(model, tmp_path / ("n" * 300 + ".gguf"))
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_plan_is_told_before_anything_is_written(model: TinyModel, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="target_length is 8"):
        bake(model.path, tmp_path / "baked.gguf", method="pi", target_length=8)
    assert list(tmp_path.iterdir()) == []


def test_a_baked_file_is_not_baked_again(model: TinyModel, tmp_path: Path) -> None:
    baked = bake_to(model, tmp_path / "baked.gguf").target
    with pytest.raises(
        SourceError, match=r"carries a plan already \(dprope\); bake from the plain file, which"
    ):
        bake(baked, tmp_path / "again.gguf", method="pi", target_length=TARGET)


@pytest.mark.parametrize("arch", ["mamba", "gpt2", "unheard-of"])
def test_architectures_that_cannot_be_extended(tmp_path: Path, arch: str) -> None:
    source = write_rope_keys(tmp_path / "other.gguf", arch)
    with pytest.raises(SourceError, match=rf"other\.gguf: the architecture {arch} "):
        bake(source, tmp_path / "baked.gguf", method="pi", target_length=4096)
