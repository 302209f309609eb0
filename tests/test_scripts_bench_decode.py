"""The bench's decode at depth: two processes that hold a text, writing in turns. No time is judged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from test_scripts_bench_runs import run

pytestmark = pytest.mark.usefixtures("patched_library")


def test_both_write_in_turns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_llama: Path, tmp_path: Path
) -> None:
    small = ("--model", tiny_llama, "--threads", 1, "--json", tmp_path / "out.json")
    assert run(monkeypatch, "decode", *small, "--tokens", 1024, "--pairs", 3, "--window", 64) == 0
    record = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["decode"]
    assert record["depth"] == 1024 - 3 * record["tokens_per_turn"]
    assert {name: len(turns) for name, turns in record["seconds"].items()} == {"no plan": 3, "windows": 3}
    assert "Both contexts hold 976 tokens" in capsys.readouterr().out


def test_a_refusal_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_llama: Path
) -> None:
    tokens = ("--tokens", 2048, "--pairs", 1, "--lower", 1, "--window", 3_000_000_000)
    assert run(monkeypatch, "decode", "--model", tiny_llama, "--threads", 1, *tokens) != 0
    assert "window" in capsys.readouterr().err
