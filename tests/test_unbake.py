"""Unbake: the file that was baked, byte for byte, or one sentence."""

from __future__ import annotations

import hashlib
import shutil
import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gguf_files import write_rope_keys
from raw_gguf import N_ROT, RawFile, raw_files, rope_keys, string, u32, vector
from ropewalk_convert import SourceError, SpaceError, TargetError, bake
from ropewalk_convert.bake import write_planned
from ropewalk_convert.gguf_copy import GgufCopy
from ropewalk_convert.model_card import ModelCard
from ropewalk_convert.unbake import unbake
from ropewalk_convert.undo import Undo, UndoError, decode_undo, encode_undo
from ropewalk_plan import GgufHeader, make_plan, rope_spec_from_gguf
from ropewalk_plan.metadata import FileChanges

METHODS = ("none", "pi", "ntk", "yarn", "dprope", "extra-pe", "extra-mpe+logn", "yarn+logn")
HEADER_ALONE = RawFile(tuple(rope_keys()), ())  # a tensor is appended to no data
WITH_FACTORS = RawFile(tuple(rope_keys()), (vector("rope_freqs.weight", [2.0] * (N_ROT // 2)),))
CONVERTED = ModelCard("1.0", "convert", "someone/model")


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return write_rope_keys(tmp_path / "plain.gguf")


def bake_to(source: Path, target: Path, method: str = "yarn") -> Path:
    return bake(source, target, method=method, target_length=4096).target


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)
@given(file=raw_files(), method=st.sampled_from(METHODS), check=st.booleans())
@example(file=HEADER_ALONE, method="dprope", check=True)
@example(file=WITH_FACTORS, method="pi", check=True)
def test_every_byte_comes_back(file: RawFile, method: str, check: bool, tmp_path: Path) -> None:
    source = file.write(tmp_path / "plain.gguf")
    for name in ("baked.gguf", "back.gguf"):
        (tmp_path / name).unlink(missing_ok=True)
    baked = bake(source, tmp_path / "baked.gguf", method=method, target_length=256, check=check)
    assert GgufHeader.read(baked.target).value("ropewalk.schema") == 1
    back = unbake(baked.target, tmp_path / "back.gguf")
    assert back.target.read_bytes() == file.to_bytes()
    assert back.method == method


def test_a_changed_tensor_is_in_the_record_and_no_weight(tmp_path: Path) -> None:
    """The record is small: it holds what the baked file has no more, and nothing that it has."""
    factors = vector("rope_freqs.weight", [1.5] * (N_ROT // 2))
    large = vector("token_embd.weight", [0.25] * 100_000)
    source = RawFile((*rope_keys(), string("general.name", "Some")), (large, factors)).write(
        tmp_path / "a.gguf"
    )
    baked = bake(source, tmp_path / "b.gguf", method="pi", target_length=128).target
    record = GgufHeader.read(baked).value("ropewalk.undo")
    assert isinstance(record, list)
    assert factors.data in bytes(record)
    assert len(record) < 1000
    assert GgufHeader.read(baked).types("ropewalk.undo") == (9, 0), "an array of U8"


def test_progress_runs_to_the_size_of_the_original(plain: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    baked = bake_to(plain, tmp_path / "baked.gguf")
    unbake(baked, tmp_path / "back.gguf", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (plain.stat().st_size, plain.stat().st_size)


def test_what_was_not_baked(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"plain\.gguf carries no plan"):
        unbake(plain, tmp_path / "back.gguf")
    plan = make_plan(rope_spec_from_gguf(GgufHeader.read(plain)), "yarn", 4096)
    again = r"converted from a checkpoint \(someone/model\).*--method none"
    for name, planned, words in (("with", plan, again), ("without", None, "without.gguf carries no plan")):
        target = tmp_path / f"{name}.gguf"
        write_planned(plain, target, planned, card=CONVERTED, undo=False, force=False)
        with pytest.raises(SourceError, match=words):
            unbake(target, tmp_path / "back.gguf")
    assert not (tmp_path / "back.gguf").exists()


def test_baked_by_an_older_version(plain: Path, tmp_path: Path) -> None:
    """Its keys as that version wrote them: a plan, no record."""
    header = GgufHeader.read(bake_to(plain, tmp_path / "baked.gguf"))
    names = {
        name for name in header.keys if name in ("ropewalk.undo", "ropewalk.made_by", "ropewalk.version")
    }
    copy = GgufCopy(header, FileChanges(False, "", keys=(), dropped=frozenset(names)))
    with (tmp_path / "old.gguf").open("wb") as file:
        for _ in copy.write(file.write):
            pass
    with pytest.raises(SourceError, match=r"old\.gguf was baked by a version that kept no record.*again"):
        unbake(tmp_path / "old.gguf", tmp_path / "back.gguf")
    with pytest.raises(SourceError, match=r"carries a plan already \(yarn\); bake from the plain file$"):
        bake_to(tmp_path / "old.gguf", tmp_path / "again.gguf")


def test_changed_after_baking(tmp_path: Path) -> None:
    """Another tool wrote into the file: in its metadata, or with other positions."""
    keys = (*rope_keys(), string("general.name", "Original"))
    source = RawFile(keys, (vector("a", [1.0] * 99),)).write(tmp_path / "plain.gguf")
    baked = bake(source, tmp_path / "baked.gguf", method="extra-pe", target_length=128).target
    raw = baked.read_bytes()
    for name, changed, words in (
        ("name", raw.replace(b"Original", b"Modified", 1), "changed after it was baked, in its metadata"),
        ("longer", raw + b"x", "bytes and had"),
        ("version", _in_record(raw, 0, b"\x07"), "its record of the original is of version 7"),
        ("digest", _in_record(raw, 25, b"\x00" * 32), "changed after it was baked"),
        ("size", _in_record(raw, 1, struct.pack("<Q", 12)), "its record of the original is damaged"),
        ("pieces", _in_record(raw, 57, struct.pack("<I", 10**9)), "its record of the original is cut short"),
    ):
        path = tmp_path / f"{name}.gguf"
        path.write_bytes(changed)
        with pytest.raises(SourceError, match=words) as error:
            unbake(path, tmp_path / "back.gguf")
        assert path.name in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "back.gguf").exists()


def _in_record(raw: bytes, offset: int, new: bytes) -> bytes:
    name = b"ropewalk.undo"
    at = raw.index(name) + len(name) + 4 + 4 + 8 + offset
    return raw[:at] + new + raw[at + len(new) :]


@given(raw=st.binary(max_size=200), known=st.booleans())
def test_any_bytes_are_a_record_or_an_error_of_ours(raw: bytes, known: bool) -> None:
    raw = bytes([1]) + raw if known else raw
    with suppress(UndoError):
        assert encode_undo(decode_undo(raw)) == raw


def test_a_damaged_record_reads_nothing_beyond_the_file(plain: Path, tmp_path: Path) -> None:
    header = GgufHeader.read(bake_to(plain, tmp_path / "baked.gguf"))
    record = header.value("ropewalk.undo")
    assert isinstance(record, list)
    good = decode_undo(bytes(record))
    assert decode_undo(encode_undo(good)) == good
    assert hashlib.sha256(plain.read_bytes()[: good.header_bytes]).digest() == good.header_sha256
    beyond = Undo(good.original_bytes, good.header_bytes, 10, good.header_sha256, good.pieces)
    with pytest.raises(UndoError, match="damaged"):
        decode_undo(encode_undo(beyond))


def test_targets_are_kept_as_bake_keeps_them(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    baked = bake_to(plain, tmp_path / "baked.gguf")
    target = tmp_path / "back.gguf"
    with pytest.raises(TargetError, match="is the source itself"):
        unbake(baked, baked, force=True)
    target.write_bytes(b"precious")
    with pytest.raises(TargetError, match="exists already"):
        unbake(baked, target)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unbake(baked, target, force=True, progress=stop)
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    with monkeypatch.context() as patch:
        patch.setattr("ropewalk_convert.target.shutil.disk_usage", lambda _: usage)
        with pytest.raises(SpaceError):
            unbake(baked, target, force=True)
    assert target.read_bytes() == b"precious"
    assert unbake(baked, target, force=True).target.read_bytes() == plain.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back.gguf", "baked.gguf", "plain.gguf"]


def test_baking_what_was_given_back_is_the_same_file(plain: Path, tmp_path: Path) -> None:
    baked = bake_to(plain, tmp_path / "baked.gguf")
    plain.unlink()
    back = unbake(baked, plain).target
    assert bake_to(back, tmp_path / "again.gguf").read_bytes() == baked.read_bytes()


def test_a_converted_file_is_baked_and_given_back(plain: Path, tmp_path: Path) -> None:
    """Its card's keys are replaced, and come back."""
    converted = tmp_path / "converted.gguf"
    card = ModelCard("1.0", "convert", "someone/model", "0123abc")
    write_planned(plain, converted, None, card=card, undo=False, force=False)
    baked = bake_to(converted, tmp_path / "baked.gguf")
    header = GgufHeader.read(baked)
    assert (header.value("ropewalk.made_by"), header.value("ropewalk.base_model")) == (
        "bake",
        "someone/model",
    )
    assert header.value("ropewalk.base_model_revision") == "0123abc"
    assert unbake(baked, tmp_path / "back.gguf").target.read_bytes() == converted.read_bytes()


def test_u32_keys_of_another_type_come_back(tmp_path: Path) -> None:
    """A key that the plan replaces, of a type that the plan does not write."""
    keys = [key for key in rope_keys() if key[0] != "llama.context_length"]
    wide = ("llama.context_length", struct.pack("<IQ", 10, 64))
    source = RawFile((wide, *keys, u32("x", 1)), ()).write(tmp_path / "plain.gguf")
    baked = bake(source, tmp_path / "baked.gguf", method="pi", target_length=128)
    assert baked.native
    assert unbake(baked.target, tmp_path / "back.gguf").target.read_bytes() == source.read_bytes()
