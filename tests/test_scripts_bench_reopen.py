"""The bench's reopening: on a tiny model, and what it makes of numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmark.reopen import Keeping, Reading, Reopening, keeping_table, reopening_table
from test_scripts_bench_runs import run
from tiny_models import write_tiny_model


@pytest.mark.usefixtures("patched_library")
def test_a_document_is_read_kept_and_reopened(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = write_tiny_model(tmp_path / "tiny.gguf", head_dim=32, train_length=256).path
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox " * 100, encoding="utf-8")
    small = ("--model", model, "--threads", 1, "--json", tmp_path / "out.json")
    assert run(monkeypatch, "reopen", *small, "--text", text, "--tokens", 300) == 0
    assert "| reopened, from the disk |" in capsys.readouterr().out
    record = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["reopen"]
    assert record["fresh"]["held_tokens"] == 0
    for way in ("from_memory", "from_disk"):
        assert record[way]["held_tokens"] == 292
        assert record[way]["answer"] == record["fresh"]["answer"]
    sizes = {kept["kv_type"]: kept["n_bytes"] / kept["tokens"] for kept in record["kept"][1:]}
    cells = 2 * 2 * 2 * 32  # layers, keys and values, heads, numbers
    assert sizes["f16"] == pytest.approx(cells * 2, rel=0.1)
    assert sizes["q8_0"] == pytest.approx(cells * 34 / 32, rel=0.1)
    assert list((tmp_path / "cache").rglob("state")) == []
    assert run(monkeypatch, "reopen", *small, "--text", text, "--tokens", 30_000) != 0
    assert "name more files" in capsys.readouterr().err


def test_tables() -> None:
    found = Reopening(
        Reading(200.0, 0, (1, 2)),
        Reading(2.0, 16376, (1, 2)),
        Reading(4.0, 16376, (1, 3)),
        (Keeping("f16", 1000, 23_000_000, 0.5),),
    )
    assert found.gain == 100.0
    rows = reopening_table(found).splitlines()[2:]
    assert rows == [
        "| read | 200.00 | 0 | 1 | yes |",
        "| reopened, its file in memory | 2.00 | 16,376 | 100 | yes |",
        "| reopened, from the disk | 4.00 | 16,376 | 50 | no |",
    ]
    assert keeping_table(found).splitlines()[2] == "| f16, 1,000 tokens | 23.0 | 23,000 | 0.50 |"
