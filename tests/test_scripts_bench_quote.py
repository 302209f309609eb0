"""The bench's quotations: the passage that is found, and what is told of the answers. No time is judged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmark import quote
from test_scripts_bench_runs import run
from tiny_models import PIECES, write_chain_model

pytestmark = pytest.mark.usefixtures("patched_library")

ALPHABET = "abcdefghijklmnopqrstuvwxyz"


def test_a_passage_is_quoted_with_drafts_and_without(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """By a model that goes on with the alphabet and knows nothing after z."""
    monkeypatch.setattr(quote, "ANSWER_TOKENS", 10)
    monkeypatch.setattr(quote, "_GIVEN", 8)
    monkeypatch.setattr(quote, "_STEP", 12)
    model = write_chain_model(tmp_path / "chain.gguf", [PIECES.index(letter) for letter in ALPHABET]).path
    text = tmp_path / "text.txt"
    text.write_text(ALPHABET * 10, encoding="utf-8")
    arguments = ("--threads", 1, "--tokens", 200, "--pairs", 2, "--json", tmp_path / "out.json")
    run(monkeypatch, "quote", "--model", model, "--text", text, *arguments)
    record = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["quote"]
    start = record["passage_start"]
    assert start > 0 == start % 12
    quoted = (ALPHABET * 10)[start - 1 :][:18]  # before it is the start token
    assert "za" not in quoted[7:]
    for pair in record["answers"][quote._QUOTES]:
        letters = "".join(PIECES[token] for token in pair["drafted"]["token_ids"])
        assert letters == quoted[8:]
        assert pair["drafted"]["token_ids"] == pair["plain"]["token_ids"]
        assert pair["drafted"]["accepted"] > 0 == pair["plain"]["drafted"]
    assert set(record["batch_seconds"]) == {"1", "2", "4", "8", "12", "16"}
    assert "| 2 of 2 |" in capsys.readouterr().out


def test_a_model_that_copies_nothing_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_llama: Path, tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox " * 100, encoding="utf-8")
    arguments = ("--model", tiny_llama, "--threads", 1, "--text", text, "--pairs", 1)
    assert run(monkeypatch, "quote", *arguments, "--tokens", 500) != 0
    assert "copies no passage" in capsys.readouterr().err
    assert run(monkeypatch, "quote", *arguments) != 0
    assert "4,000 are to be read" in capsys.readouterr().err
