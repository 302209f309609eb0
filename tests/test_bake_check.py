"""`--check`: a weight that is not the source's is found, wherever it is, before the copy gets its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli_running import CommandLine
from raw_gguf import N_ROT, TENSOR_F16, TENSOR_UNKNOWN, RawFile, RawTensor, rope_keys, vector
from ropewalk_convert import BakeError, bake
from ropewalk_convert.whole_file import WholeFile
from ropewalk_plan import GgufHeader

NUMBERS = [float(number) for number in range(40)]
FIRST = vector("first", NUMBERS)
UNKNOWN = RawTensor("of a type that nobody knows", (5,), TENSOR_UNKNOWN, bytes(range(64)))
LAST = RawTensor("last", (31, 3), TENSOR_F16, bytes(range(186)))
FACTORS = vector("rope_freqs.weight", [1.0] * (N_ROT // 2))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return RawFile(tuple(rope_keys()), (FIRST, FACTORS, UNKNOWN, LAST)).write(tmp_path / "plain.gguf")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def damage(monkeypatch: pytest.MonkeyPatch, name: str, at: int) -> None:
    """Every file is written with one bit wrong, in byte `at` of a tensor."""
    sync = WholeFile.sync

    def wrong(file: WholeFile) -> None:
        sync(file)
        header = GgufHeader.read_file(file.path)
        place = header.data_start + header.tensors[name].offset + at
        raw = bytearray(file.path.read_bytes())
        raw[place] ^= 0x10
        with file.path.open("r+b") as written:
            written.write(raw)

    monkeypatch.setattr(WholeFile, "sync", wrong)


@pytest.mark.parametrize(
    ("at", "tensor"), [(0, FIRST), (159, FIRST), (0, UNKNOWN), (63, UNKNOWN), (0, LAST), (185, LAST)]
)
def test_one_wrong_bit_is_found(
    source: Path, out: Path, monkeypatch: pytest.MonkeyPatch, at: int, tensor: RawTensor
) -> None:
    damage(monkeypatch, tensor.name, at)
    with pytest.raises(BakeError, match=f"the tensor {tensor.name} of the copy of .*plain.gguf differs"):
        bake(source, out / "b.gguf", method="pi", target_length=128, check=True)
    assert list(out.iterdir()) == []


def test_what_the_plan_changes_is_no_fault(source: Path, out: Path) -> None:
    baked = bake(source, out / "b.gguf", method="pi", target_length=128, check=True).target
    factors = GgufHeader.read(baked).tensor_f32("rope_freqs.weight")
    assert factors is not None and set(factors) == {2.0}


def test_small_pieces_are_compared_alike(source: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ropewalk_convert.weights_check.CHUNK", 7)
    bake(source, out / "b.gguf", method="pi", target_length=128, check=True)
    damage(monkeypatch, "last", 184)
    with pytest.raises(BakeError, match=r"the tensor last"):
        bake(source, out / "c.gguf", method="pi", target_length=128, check=True)


def test_progress_covers_writing_and_comparing(source: Path, out: Path) -> None:
    seen: list[tuple[int, int]] = []
    target = out / "b.gguf"
    bake(
        source,
        target,
        method="pi",
        target_length=128,
        check=True,
        progress=lambda done, total: seen.append((done, total)),
    )
    compared = sum(len(tensor.data) for tensor in (FIRST, UNKNOWN, LAST))
    assert seen[-1] == (target.stat().st_size + compared,) * 2


def test_on_the_command_line(
    source: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    command = CommandLine(monkeypatch, capfd)
    arguments = ("--method", "pi", "--target-length", "128", "--check")
    good = command("bake", source, out / "b.gguf", *arguments)
    assert good.exit_code == 0
    assert "every byte is the source's" in good.stdout
    damage(monkeypatch, "last", 185)
    bad = command("bake", source, out / "c.gguf", *arguments)
    assert bad.exit_code == 1
    assert "the tensor last" in bad.sentence
    assert [path.name for path in out.iterdir()] == ["b.gguf"]


def test_a_source_that_cannot_be_read_again(
    source: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is gone when it is compared: a sentence, and nothing left."""
    sync = WholeFile.sync

    def then_gone(file: WholeFile) -> None:
        sync(file)
        source.unlink()

    monkeypatch.setattr(WholeFile, "sync", then_gone)
    arguments = ("--method", "pi", "--target-length", "128", "--check")
    outcome = CommandLine(monkeypatch, capfd)("bake", source, out / "b.gguf", *arguments)
    assert outcome.exit_code == 3
    assert "plain.gguf cannot be read" in outcome.sentence
    assert list(out.iterdir()) == []
