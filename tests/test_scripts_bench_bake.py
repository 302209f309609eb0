"""The bench of baking on a small file: what it runs, what it tells, and what it does not let pass."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import bench
from benchmark import baking
from benchmark.baking import BASES, COPY, COPY_AND_SYNC, Took
from benchmark.bench import Bench
from benchmark.child import Libraries
from provision.failure import run_main

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="GNU cp and /proc")


@pytest.mark.usefixtures("patched_library")
def test_every_command_is_run_in_every_round(
    tiny_llama: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(baking, "TIMES_OF_COPY", 1e9)  # no time is judged here
    monkeypatch.setattr(baking, "PAUSE_SECONDS", 0.0)
    options = ("--gigabytes", 0.002, "--pairs", 1, "--model", tiny_llama, "--json", tmp_path / "out.json")
    monkeypatch.setattr(sys, "argv", ["bench.py", "bake", *map(str, options)])
    assert run_main(bench.main) == 0
    record = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["bake"]
    assert record["bytes"] > 2_000_000
    assert set(record["runs"]) == {COPY, COPY_AND_SYNC, *BASES}
    for runs in (*record["runs"].values(), record["start_up"]):
        assert len(runs) == 1
        assert runs[0]["seconds"] > 0
    for name in BASES:
        assert record["runs"][name][0]["anonymous_bytes"] > 5_000_000, "an interpreter with NumPy takes more"
    assert "| bake |" in capfd.readouterr().out
    assert list((tmp_path / "ropewalk" / "bench").iterdir()) == []


def test_what_is_too_slow_or_too_large_fails() -> None:
    runs = {name: [Took(1.0), Took(2.0)] for name in (COPY, COPY_AND_SYNC, *BASES)}
    machine = Bench(Libraries(None), {}, Path("m.gguf"), 1)

    def failure(**changed: list[Took]) -> str:
        return baking._outcome(machine, {**runs, **changed}, runs[COPY], 10**9, 0.5).failure

    assert failure() == ""
    assert failure(bake=[Took(1.25), Took(2.5)]) == ""
    assert "1.35 times as long as cp" in failure(bake=[Took(1.35), Took(2.7)])
    assert "300.0 MB" in failure(bake=[Took(1.0), Took(2.0, 300_000_001)])
