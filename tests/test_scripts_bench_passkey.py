"""The bench of passkey tests: on a tiny model, and what it makes of numbers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from benchmark.passkey_sharing import Pair, Sharing, sharing_table, sharing_words, windows_ratio
from ropewalk.evaluation.retrieval import RetrievalResult
from ropewalk.evaluation.retrieval_run import Work
from test_scripts_bench_runs import run


@pytest.mark.usefixtures("patched_library")
def test_cells_are_run_both_ways(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny_llama: Path
) -> None:
    out = tmp_path / "out.json"
    arguments = ("--model", tiny_llama, "--threads", 1, "--tokens", 700, "--json", out)
    assert run(monkeypatch, "passkey", *arguments) == 0
    told = capsys.readouterr().out
    assert "letter for letter: 15 of 15." in told
    (found,) = json.loads(out.read_text(encoding="utf-8"))["passkey"]["rounds"]
    assert len(found["pairs"]) == 15
    computed = sum(pair["shared"]["computed_tokens"] for pair in found["pairs"])
    naive = sum(pair["naive_tokens"] for pair in found["pairs"])
    assert computed == found["work"]["planned"]
    assert naive == found["work"]["naive"] == sum(pair["shared"]["prompt_tokens"] for pair in found["pairs"])
    assert found["work"]["bound"] / computed >= 0.9


def test_the_issues_count() -> None:
    assert windows_ratio((0.1, 0.3, 0.5, 0.7, 0.9), 3) == pytest.approx(1.7857, abs=1e-4)
    assert windows_ratio((0.5,), 1) == pytest.approx(1.0)


def test_tables_and_words() -> None:
    shared = RetrievalResult(
        method="shared",
        test="passkey",
        length=1000,
        depth=0.5,
        trial=0,
        expected=("12345",),
        answer=" 12345.",
        hit=True,
        prompt_tokens=1000,
        distance=500,
        computed_tokens=560,
        seconds=2.0,
    )
    pairs = [
        Pair(shared, 4.0, 1000, " 12345."),
        Pair(dataclasses.replace(shared, seconds=3.0), 5.0, 1000, " 1"),
    ]
    found = Sharing(pairs, Work(naive=2000, planned=1120, bound=1064))
    assert found.share_of_bound == pytest.approx(0.95)
    rows = sharing_table([found]).splitlines()[2:]
    assert rows == [
        "| naive | 2,000 |  | 9.0 |  |",
        "| shared | 1,120 | 1.786 times fewer | 5.0 | 1.800 times as fast |",
        "| at the least | 1,064 | 1.880 times fewer |  |  |",
    ]
    words = sharing_words([found])
    assert "95.0% are what no order can avoid" in words
    assert "= 8.4, the most to be had is 1.786 times fewer, and 100.0% of that is reached" in words
    assert "letter for letter: 1 of 2" in words
