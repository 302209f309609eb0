"""The bench as a command, on a tiny model: what it prints, writes and refuses. No time is judged."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import bench
from benchmark import windows
from benchmark.child import Libraries
from benchmark.jobs import Piece, Speed
from benchmark.outcome import Outcome
from benchmark.rounds import Rounds, Variant
from provision.failure import ProvisionError, run_main

LOGGED = 0.005 * (1 << 20)
"""Bytes by which a cache's size may be off: llama.cpp logs it in hundredths of a MiB."""

pytestmark = pytest.mark.usefixtures("patched_library")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["bench.py", *map(str, arguments)])
    return run_main(bench.main)


@pytest.fixture
def small(tiny_llama: Path, tmp_path: Path) -> tuple[object, ...]:
    return ("--model", tiny_llama, "--threads", 1, "--json", tmp_path / "out.json")


def written(folder: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    return value


def test_plans_are_measured_in_rounds(
    small: tuple[object, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    sizes = ("--pairs", 2, "--tokens", 40, "--decode-tokens", 3, "--methods", "yarn,extra-mpe")
    assert run(monkeypatch, "plans", *sizes, *small) == 0
    runs = written(tmp_path)["plans"]["runs"]
    assert {name: len(each) for name, each in runs.items()} == {"no plan": 2, "yarn": 2, "extra-mpe": 2}
    for each in runs.values():
        for one in each:
            assert [(piece["depth"], piece["tokens"]) for piece in one["prefill"] + one["decode"]] == [
                (0, 40),
                (40, 3),
            ]
            # cells, layers, heads, numbers, K and V, F16
            assert one["kv_bytes"] == pytest.approx(256 * 2 * 2 * 16 * 2 * 2, abs=LOGGED)
    out = capfd.readouterr().out
    assert "scripts/bench.py plans --model tiny-llama.gguf --threads 1 --pairs 2 --tokens 40" in out
    assert str(tmp_path) not in out
    assert out.count("\n| ") == 5  # heading, line, three rows


def test_windows_are_measured_with_the_memory_they_take(
    small: tuple[object, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    sizes = ("--pairs", 1, "--tokens", 4096, "--decode-tokens", 4, "--window", 200, "--lower", 1)
    assert run(monkeypatch, "windows", "--flash-attn", "off", *sizes, *small) == 0
    measured = written(tmp_path)["windows"]["flash attention off"]
    plain, windowed = (measured["runs"][name][0] for name in ("no plan", "windows"))
    # 200 + 4 + 512 tokens in blocks of 256, in one of the two layers
    assert windowed["kv_bytes"] == pytest.approx((4096 + 768) * 2 * 16 * 2 * 2, abs=2 * LOGGED)
    assert plain["kv_bytes"] == pytest.approx(2 * 4096 * 2 * 16 * 2 * 2, abs=LOGGED)
    assert measured["arithmetic"]["kv_share_allowed"] == (4096 + 768) / (2 * 4096)
    assert [piece["tokens"] for piece in plain["decode"]] == [1, 1, 1, 1, 4]
    assert plain["decode"][-1]["depth"] + 4 == 4096
    assert "the lower 1 of 2 layers see 200 tokens and 4 sinks" in capfd.readouterr().out


def test_nodes_are_counted(
    small: tuple[object, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, "nodes", "--methods", "logn", *small) == 0
    counts = written(tmp_path)["nodes"]["operations"]
    assert [counts["logn"][i]["MUL"] - counts["no plan"][i]["MUL"] for i in range(2)] == [2, 2]
    assert "| +2 | 2 MUL |" in capfd.readouterr().out


def test_what_was_measured_before_an_interruption_is_kept(
    small: tuple[object, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(bench, "measure_plans", lambda *_, **__: Outcome("a table", {"x": 1}, complete=False))
    assert run(monkeypatch, "plans", *small) == 130
    assert written(tmp_path)["plans"]["x"] == 1
    assert written(tmp_path)["plans"]["complete"] is False
    printed = capfd.readouterr()
    assert "a table" in printed.out
    assert "Interrupted" in printed.err

    def interrupt(*_: object, **__: object) -> Outcome:
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "measure_plans", interrupt)
    assert run(monkeypatch, "plans", *small) == 130
    assert "before a round of plans was finished" in capfd.readouterr().err


def test_an_interrupted_or_failed_part_is_not_put_on_the_page(
    small: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- bench:plans -->\n<!-- bench:plans end -->\n", encoding="utf-8")
    monkeypatch.setattr(bench, "PAGE", page)
    for outcome, code in ((Outcome("t", complete=False), 130), (Outcome("t", failure="it differs"), 1)):
        monkeypatch.setattr(bench, "measure_plans", lambda *_, outcome=outcome, **__: outcome)
        assert run(monkeypatch, "plans", "--page", *small) == code
        assert "t\n" not in page.read_text(encoding="utf-8")
    monkeypatch.setattr(bench, "measure_plans", lambda *_, **__: Outcome("a table"))
    assert run(monkeypatch, "plans", "--page", *small) == 0
    assert "plans --model tiny-llama.gguf --threads 1 --page\n\na table\n" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("plans", "--pairs", 0), "--pairs is 0; it must be at least 1"),
        (("windows", "--tokens", 500, "--lower", 1), "--tokens is 500; it must be at least 2688"),
        (("windows", "--lower", 3), "--lower is 3; it must be from 1 to 2"),
        (("identity",), "identity is that with the unpatched library: add --against-stock"),
        (("plans", "--stock-library", "nowhere"), "nowhere has no libllama: name the folder that has it"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_a_sentence(
    small: tuple[object, ...],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: tuple[object, ...],
    sentence: str,
) -> None:
    assert run(monkeypatch, *arguments, *small) == 2
    assert capfd.readouterr().err.strip().splitlines()[-1] == sentence


def test_a_missing_model_and_an_unknown_measurement_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "plans", "--model", tmp_path / "no.gguf") == 3
    assert "no.gguf is missing" in capfd.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, "speed")
    assert "there is no 'speed' to measure" in capfd.readouterr().err


def test_a_plan_that_the_library_refuses_ends_the_measurement_with_its_sentence(
    small: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["bench.py", "plans", "--pairs", "1", "--methods", "nothing", *map(str, small)]
    )
    with pytest.raises(ProvisionError, match="method 'nothing' is unknown"):
        bench.main()


def test_a_patched_library_is_not_taken_for_the_unpatched_one(
    small: tuple[object, ...], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import llama_cpp

    folder = Path(llama_cpp.__file__).parent / "lib"
    assert run(monkeypatch, "plans", "--stock-library", folder, *small) == 1
    assert "is a patched one: name an unpatched one" in capfd.readouterr().err


def test_one_setting_of_flash_attention_outlives_an_interruption_of_the_other(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    measured: list[str] = []

    def measure(libraries: Libraries, variants: list[Variant], pairs: int, label: str) -> Rounds:
        measured.append(label)
        if len(measured) == 2:
            raise KeyboardInterrupt
        pieces = tuple(Piece(depth, 512, 1.0 + depth / 1000) for depth in range(0, 4096, 512))
        runs = {v.name: [Speed(pieces, (Piece(512, 1, 0.1), Piece(4096, 1, 0.2)), 100, 0)] for v in variants}
        return Rounds(runs, pairs)

    monkeypatch.setattr(windows, "measure_in_turns", measure)
    options = ("--model", tiny_llama, "--threads", 1, "--json", tmp_path / "out.json", "--pairs", 1)
    assert run(monkeypatch, "windows", *options) == 130
    assert measured == ["Windows, flash attention off", "Windows, flash attention on"]
    kept = written(tmp_path)["windows"]
    assert "flash attention off" in kept
    assert "flash attention on" not in kept
    assert "**Flash attention off**, 1 round:" in capfd.readouterr().out
