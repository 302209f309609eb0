"""The choice against an exhaustive comparison of the same prompts, on a small model that finds passkeys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli_running import run_process
from plain_conversion import converted

TINY_LLAMA = Path(__file__).parent / "data" / "tiny-llama"


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return converted(TINY_LLAMA, tmp_path_factory.mktemp("tiny-llama") / "tiny.gguf")


@pytest.mark.usefixtures("patched_library")
@pytest.mark.parametrize(("target", "seed"), [(384, 1), (512, 2)])
def test_the_choice_finds_as_many_keys_as_the_best_of_all_less_one(
    gguf: Path, tmp_path: Path, target: int, seed: int
) -> None:
    def summary(verb: str) -> list[dict[str, Any]]:
        file = tmp_path / f"{verb}.json"
        asked = ("--target-length", str(target), "--seed", str(seed), "--threads", "1")
        done = run_process(verb, gguf, *asked, "--json", file)
        assert done.exit_code == 0, done.stderr
        found: list[dict[str, Any]] = json.loads(file.read_text())["summary"]
        return found

    everything = {row["method"]: row for row in summary("compare")}
    (choice,) = summary("choose")
    assert choice["decided"]
    chosen = everything[choice["choice"]]["hits"]
    assert chosen >= max(row["hits"] for row in everything.values()) - 1
    assert chosen >= everything["none"]["hits"]
    for standing in choice["race"]:  # the same prompts have the same answers
        if standing["trials"] == standing["cells"]:
            assert standing["hits"] == everything[standing["method"]]["hits"]
    asked = sum(standing["trials"] for standing in choice["race"])
    assert asked < sum(row["trials"] for row in everything.values())
