"""`ropewalk unbake` as a person would type it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cli_running import CommandLine
from ropewalk_convert.bake import write_planned
from ropewalk_convert.model_card import ModelCard
from ropewalk_plan import GgufHeader, make_plan, rope_spec_from_gguf

METHOD = ("--method", "dprope+logn", "--target-length", "256")


@pytest.fixture
def ropewalk(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capfd)


@pytest.fixture
def baked(ropewalk: CommandLine, tiny_llama: Path, tmp_path: Path) -> Path:
    path = tmp_path / "baked.gguf"
    assert ropewalk("bake", tiny_llama, path, *METHOD).exit_code == 0
    return path


def test_gives_back_and_says_what(
    ropewalk: CommandLine, tiny_llama: Path, baked: Path, tmp_path: Path
) -> None:
    outcome = ropewalk("unbake", baked, tmp_path / "back.gguf")
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    assert "back.gguf" in outcome.stdout and "dprope+logn was taken out" in outcome.stdout
    assert (tmp_path / "back.gguf").read_bytes() == tiny_llama.read_bytes()


def test_json_is_one_object(ropewalk: CommandLine, tiny_llama: Path, baked: Path, tmp_path: Path) -> None:
    target = tmp_path / "back.gguf"
    outcome = ropewalk("unbake", baked, "-o", target, "--json")
    assert json.loads(outcome.stdout) == {
        "source": str(baked),
        "target": str(target),
        "bytes": tiny_llama.stat().st_size,
        "method": "dprope+logn",
    }


def test_sources_that_hold_nothing_to_give_back(
    ropewalk: CommandLine, tiny_llama: Path, baked: Path, tmp_path: Path
) -> None:
    card = ModelCard("1.0", "convert", "someone/model")
    plan = make_plan(rope_spec_from_gguf(GgufHeader.read(tiny_llama)), "yarn", 256)
    write_planned(tiny_llama, tmp_path / "converted.gguf", plan, card=card, undo=False, force=False)
    write_planned(tiny_llama, tmp_path / "plain.gguf", None, card=card, undo=False, force=False)
    (tmp_path / "short.gguf").write_bytes(baked.read_bytes()[:-1000])
    before = sorted(tmp_path.iterdir())
    for source, words in (
        (tiny_llama, "carries no plan"),
        (tmp_path / "converted.gguf", "convert it again with --method none"),
        (tmp_path / "plain.gguf", "carries no plan"),
        (tmp_path / "short.gguf", "cut short"),
        (tmp_path / "missing.gguf", "does not exist"),
    ):
        outcome = ropewalk("unbake", source, tmp_path / "back.gguf")
        assert outcome.exit_code == 3
        assert source.name in outcome.sentence and words in outcome.sentence
    assert sorted(tmp_path.iterdir()) == before


def test_targets(ropewalk: CommandLine, baked: Path, tmp_path: Path) -> None:
    target = tmp_path / "back.gguf"
    target.write_text("precious")
    os.mkfifo(tmp_path / "pipe.gguf")
    for arguments, words in (
        ((), "Missing OUT"),
        ((target, "-o", target), "given twice"),
        (("-",), "cannot go to stdout"),
        ((target,), "exists already"),
        ((baked, "--force"), "is the source itself"),
        ((tmp_path / "pipe.gguf", "--force"), "is no regular file"),
        ((tmp_path / "none" / "a.gguf",), "does not exist; make it first"),
    ):
        outcome = ropewalk("unbake", baked, *arguments)
        assert outcome.exit_code == 2
        assert words in outcome.sentence
    assert target.read_text() == "precious"
    assert ropewalk("unbake", baked, target, "--force").exit_code == 0


def test_a_baked_file_is_given_back_rather_than_baked_again(
    ropewalk: CommandLine, baked: Path, tmp_path: Path
) -> None:
    outcome = ropewalk("bake", baked, tmp_path / "again.gguf", *METHOD)
    assert outcome.exit_code == 3
    assert "bake from the plain file, which `ropewalk unbake` gives back" in outcome.sentence
