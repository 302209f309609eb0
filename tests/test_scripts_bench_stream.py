"""The bench's stream: perplexity by part, against definitions and a model whose every context is a window."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from benchmark.likelihoods import negative_log_likelihoods
from test_scripts_bench_runs import run

N_PARTS = 3


def test_the_likelihood_of_what_follows() -> None:
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])) + np.array([[3.0], [-700.0]])
    assert negative_log_likelihoods(logits.astype(np.float32), [0, 2]) == pytest.approx(
        [-math.log(0.5), -math.log(0.8)], abs=1e-4
    )


@pytest.mark.usefixtures("patched_library")
def test_a_stream_is_read_in_parts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_llama: Path, tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox " * 2000, encoding="utf-8")
    small = ("--model", tiny_llama, "--threads", 1, "--json", tmp_path / "out.json")
    reading = ("--text", text, "--target-length", 1024, "--times", N_PARTS, "--window", 256)
    assert run(monkeypatch, "stream", *small, *reading) == 0
    assert "--text text.txt --target-length 1024 --times 3" in capsys.readouterr().out
    record = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["stream"]
    parts = record["streaming"]
    assert [part["first"] for part in parts] == [0, 1024, 2048]
    peaks = [part["peak_bytes"] for part in parts]
    assert peaks == sorted(peaks)
    assert record["plain"][0]["tokens"] <= parts[0]["tokens"]
    assert all(part["perplexity"] > 1 for part in (*parts, *record["plain"]))


@pytest.mark.usefixtures("patched_library")
def test_a_text_that_is_too_short(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_llama: Path, tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("short", encoding="utf-8")
    reading = ("--text", text, "--target-length", 1024)
    assert run(monkeypatch, "stream", "--model", tiny_llama, "--threads", 1, *reading) != 0
    assert "name more files" in capsys.readouterr().err
