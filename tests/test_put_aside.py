"""What a killed process had put aside comes back; what a running one has put aside is left alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from gguf import GGUFValueType

from ropewalk_convert import bake, whole_file
from ropewalk_convert.gguf_copy import GgufCopy
from ropewalk_convert.put_aside import bring_back_left, put_aside
from ropewalk_convert.unbake import unbake
from ropewalk_convert.undo import UNDO_KEY
from ropewalk_plan import GgufHeader, read_plan
from ropewalk_plan.metadata import FileChanges, KeyValue
from split_models import SplitModel, write_split_model
from tiny_models import write_tiny_model

TARGET = 256


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> SplitModel:
    return write_split_model(tmp_path_factory.mktemp("aside") / "tiny")


@pytest.mark.parametrize("published", [0, 1, 2])
def test_killed_while_a_set_is_replaced(
    split: SplitModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, published: int
) -> None:
    """The old set is whole again after the next run, whatever becomes of that; the new one is gone."""
    out = tmp_path / "long.gguf"
    bake(split.parts[0], out, method="yarn", target_length=TARGET)
    before = contents(tmp_path)
    publish, calls = whole_file._publish_new, list[Path]()

    def killed(temporary: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) > published:
            os._exit(9)
        publish(temporary, target)

    pid = os.fork()
    if pid == 0:
        monkeypatch.setattr(whole_file, "_publish_new", killed)
        bake(split.parts[0], out, method="pi", target_length=TARGET, force=True)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    assert not (tmp_path / "long-00001-of-00003.gguf").exists()

    def stopped(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bake(split.parts[0], out, method="pi", target_length=TARGET, force=True, progress=stopped)
    assert contents(tmp_path) == before
    bake(split.parts[0], out, method="pi", target_length=TARGET, force=True)
    stored = read_plan(GgufHeader.read(tmp_path / "long-00001-of-00003.gguf"))
    assert stored is not None
    assert stored.plan.method == "pi"
    assert contents(tmp_path).keys() == before.keys()


def test_what_a_running_process_has_put_aside_is_its_own(tmp_path: Path) -> None:
    targets = [tmp_path / name for name in ("a", "b")]
    for target in targets:
        target.write_text(f"old {target.name}")
    with put_aside(targets):
        asides = contents(tmp_path)
        assert not {"a", "b"} & asides.keys()
        bring_back_left(targets)
        assert contents(tmp_path) == asides
        for target in targets:
            target.write_text("new")
    assert contents(tmp_path) == {"a": b"new", "b": b"new"}


def test_what_is_of_no_more_use_goes(tmp_path: Path) -> None:
    """Killed after the first file had its name: the new set is whole."""
    targets = [tmp_path / name for name in ("a", "b")]
    for target in targets:
        target.write_text("new")
        target.with_name(f".{target.name}.01234567.old").write_text("old")
    bring_back_left(targets)
    assert contents(tmp_path) == {"a": b"new", "b": b"new"}


def test_a_name_that_is_no_utf_8(tmp_path: Path) -> None:
    source = tmp_path / os.fsdecode(b"bad\xff.gguf")
    write_tiny_model(tmp_path / "plain.gguf")
    (tmp_path / "plain.gguf").rename(source)
    out = tmp_path / "out.gguf"
    bake(source, out, method="pi", target_length=TARGET)
    assert GgufHeader.read(out).value("ropewalk.base_model") == "bad\N{REPLACEMENT CHARACTER}.gguf"


def test_a_record_that_is_left_over_is_not_written_twice(tmp_path: Path) -> None:
    """As of a baked file from which another program has taken some keys; `unbake` gives it back as it was."""
    plain, source, out = (tmp_path / f"{name}.gguf" for name in ("plain", "source", "out"))
    write_tiny_model(plain)
    header = GgufHeader.read(plain)
    left_over = KeyValue(UNDO_KEY, GGUFValueType.UINT32, 7)
    copy = GgufCopy(header, FileChanges(native=True, native_reason="", keys=(left_over,)), undo=False)
    with source.open("wb") as file:
        assert list(copy.write(file.write))
    bake(source, out, method="pi", target_length=TARGET)
    unbake(out, tmp_path / "again.gguf")
    assert (tmp_path / "again.gguf").read_bytes() == source.read_bytes()
