"""`ropewalk fit`: against contexts that are really made, sums by hand, and the exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli_running import Outcome
from ropewalk.cli.run import run
from ropewalk.engine import Engine, EngineOptions
from ropewalk.engine.codec import from_plain, to_plain
from ropewalk.engine.fit_report import (
    DeviceRoom,
    DeviceTake,
    FitReport,
    FitRow,
    FittedModel,
    LongestContext,
)
from rpc_servers import require_rpc, running_server
from tiny_models import write_tiny_model
from tiny_other_memories import write_tiny_lfm2

pytestmark = pytest.mark.usefixtures("patched_library")

N_LAYER, N_KV_HEADS, HEAD = 3, 2, 32
TRAIN_LENGTH = 1024
GB = 10**9


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fit") / "m.gguf"
    write_tiny_model(
        path,
        n_layer=N_LAYER,
        n_embd=128,
        n_head=4,
        n_head_kv=N_KV_HEADS,
        head_dim=HEAD,
        train_length=TRAIN_LENGTH,
    )
    return path


class Ropewalk:
    """`ropewalk fit` in this process; what it starts are processes of their own."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def __call__(self, *arguments: str | Path) -> Outcome:
        exit_code = run(["fit", *map(str, arguments)])
        captured = self._capfd.readouterr()
        return Outcome(exit_code, captured.out, captured.err)

    def json(self, *arguments: str | Path) -> tuple[dict[str, Any], Outcome]:
        """What it says to programs."""
        outcome = self(*arguments, "--json", "--threads", "1")
        return (json.loads(outcome.stdout) if outcome.stdout else {}), outcome


@pytest.fixture
def fit(capfd: pytest.CaptureFixture[str]) -> Ropewalk:
    return Ropewalk(capfd)


def _row(told: dict[str, Any], kv_type: str, n_ctx: int) -> dict[str, Any]:
    (row,) = (row for row in told["contexts"] if (row["kv_type"], row["n_ctx"]) == (kv_type, n_ctx))
    assert isinstance(row, dict)
    return row


def test_sizes_are_those_of_an_engine_that_was_loaded(fit: Ropewalk, model: Path) -> None:
    told, outcome = fit.json(model, "--target-length", "4096")
    assert outcome.exit_code == 0
    assert told["fits"]
    for kv_type in ("f16", "q8_0", "q4_0"):
        with Engine.start() as engine:
            engine.load(model, EngineOptions(n_ctx=4096, threads=1, kv_type=kv_type, gpu_layers=0))
            (real,) = engine.memory().devices
        row = _row(told, kv_type, 4096)
        (device,) = row["devices"]
        assert device["device"] == real.device == "CPU"
        assert (device["weights"], device["kv_cache"]) == (real.weights, real.cache)
        besides = 4 * 4096 * 512 * 2 if kv_type == "f16" else 0  # scores converted to F16 by the threads
        assert 0 <= device["compute"] - real.compute - besides <= 4096 * 200  # the lists of the cells
        assert row["total"] == device["weights"] + device["kv_cache"] + device["compute"]


def test_the_longest_contexts_are_those_that_fit(fit: Ropewalk, model: Path) -> None:
    """What the table says is the longest one fits, and 256 tokens more do not."""
    told, _ = fit.json(model)
    (room,) = told["devices"]
    usable = room["free"] - room["margin"]
    longest = told["longest"]["f16"]
    fitting, _ = fit.json(model, "--target-length", str(longest))
    too_long, _ = fit.json(model, "--target-length", str(longest + 256))
    sizes = [_row(told, "f16", told["n_ctx"])["total"] for told in (fitting, too_long)]
    assert sizes[0] <= usable < sizes[1]
    assert told["longest"]["f16"] < told["longest"]["q8_0"] < told["longest"]["q4_0"]


def test_what_does_not_fit_is_exit_code_4(fit: Ropewalk, model: Path) -> None:
    told, outcome = fit.json(model, "--target-length", "2000000000")
    assert outcome.exit_code == 4
    assert not told["fits"]
    assert _row(told, "f16", 2_000_000_000)["short_of"] == "CPU"
    shown = fit(model, "--target-length", "2000000000")
    assert shown.exit_code == 4
    assert "no: there is not enough memory on CPU; the longest context that fits has" in shown.stdout
    assert "too much" in shown.stdout


def test_the_length_is_the_target_length_where_none_is_named(fit: Ropewalk, model: Path) -> None:
    told, outcome = fit.json(model)

    assert outcome.exit_code == 0
    assert told["n_ctx"] == TRAIN_LENGTH == told["target_length"]
    assert {row["n_ctx"] for row in told["contexts"]} == {256, 512, 1024, 2048, 4096}


def test_windows_are_counted(fit: Ropewalk, model: Path) -> None:
    """In a plan that streams every layer keeps window, sinks and a micro-batch."""
    arguments = ("--method", "windows", "--target-length", "16384", "--method-option", "windows=500")
    dense, _ = fit.json(model, "--target-length", "16384")
    windowed, outcome = fit.json(model, *arguments)
    assert outcome.exit_code == 0, outcome.stderr
    kept = windowed["contexts"][0]
    assert kept["n_ctx"] < 16384

    def cache(told: dict[str, Any]) -> int:
        return int(_row(told, "f16", 16384)["devices"][0]["kv_cache"])

    assert cache(dense) == pytest.approx(16384 * N_LAYER * N_KV_HEADS * HEAD * 2 * 2, abs=6000)
    assert cache(windowed) < cache(dense) / 2
    assert windowed["longest"]["f16"] == 2**31 - 256 > dense["longest"]["f16"]
    assert "yes; so does a context of any length" in fit(model, *arguments).stdout


def test_a_text_is_counted_and_held_against_the_lengths(fit: Ropewalk, model: Path, tmp_path: Path) -> None:
    text = tmp_path / "short.txt"
    text.write_text("the thing and the other " * 20)
    with Engine.start() as engine:
        engine.load(model, EngineOptions(n_ctx=1, vocabulary_only=True))
        tokens = len(engine.tokenize(text.read_text()))

    told, outcome = fit.json(model, text)

    assert outcome.exit_code == 0
    assert told["text"]["tokens"] == tokens
    assert told["text"]["within_target_length"]
    assert told["n_ctx"] == told["text"]["n_ctx"] == -(-(tokens + 512) // 256) * 256


def test_a_text_beyond_the_target_length_does_not_fit(fit: Ropewalk, model: Path, tmp_path: Path) -> None:
    text = tmp_path / "long.txt"
    text.write_text("the thing and the other " * 400)

    shown = fit(model, text)

    assert shown.exit_code == 4
    assert f"beyond the train length of {TRAIN_LENGTH:,} and the target length of" in shown.stdout
    assert "no: the text is longer than what the model is for" in shown.stdout  # and memory not the reason


def test_a_model_with_other_memories_is_measured_too(fit: Ropewalk, tmp_path: Path) -> None:
    told, outcome = fit.json(write_tiny_lfm2(tmp_path / "m.gguf"))

    assert outcome.exit_code == 0
    assert not any(row["estimated"] for row in told["contexts"])
    assert all(row["devices"][0]["kv_cache"] > 0 for row in told["contexts"])


def test_layers_on_another_machine(fit: Ropewalk, model: Path, tmp_path: Path) -> None:
    require_rpc()
    with running_server(tmp_path) as server:
        told, outcome = fit.json(model, "--rpc", str(server.address), "--gpu-layers", "2")
        shown = fit(model, "--rpc", str(server.address))

    assert outcome.exit_code == 0, outcome.stderr
    row = _row(told, "f16", TRAIN_LENGTH)
    assert (told["layers"], row["gpu_layers"]) == (N_LAYER + 1, 2)
    assert [device["device"] for device in row["devices"]] == ["CPU", "RPC0"]
    host, remote = row["devices"]
    assert remote["kv_cache"] * 2 == pytest.approx(host["kv_cache"], rel=0.02)  # a layer there, two here
    assert told["devices"][1]["description"] == str(server.address)
    assert told["devices"][1]["margin"] == 0  # a person counted
    assert "4 of 4 layers on RPC0, the output counted as one" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (("--method", "yarn"), 2, "Missing option '--target-length'"),
        (("--train-length", "100"), 2, "Missing option '--method'"),
        (("--gpu-layers", "some"), 2, "neither auto nor a number of layers"),
        (("--target-length", "32k"), 2, "write 32768"),
        (("no such text.txt",), 3, "no such text.txt"),
    ],
)
def test_bad_input_is_one_sentence(
    fit: Ropewalk, model: Path, arguments: tuple[str, ...], exit_code: int, said: str
) -> None:
    outcome = fit(model, *arguments)

    assert outcome.exit_code == exit_code
    assert said in outcome.sentence


def test_a_file_that_is_no_model(fit: Ropewalk, tmp_path: Path) -> None:
    path = tmp_path / "not.gguf"
    path.write_text("nothing")

    outcome = fit(path)

    assert outcome.exit_code == 3
    assert "not.gguf" in outcome.sentence


def test_the_report_can_be_sent() -> None:
    """What the child says is what the owner reads."""
    report = FitReport(
        FittedModel(2, GB, 512, 1024, False),
        512,
        (DeviceRoom("CPU", "", GB, 5),),
        3,
        (FitRow("f16", 512, 0, (DeviceTake("CPU", 1, 2, 3),), None, False),),
        (LongestContext("f16", 256),),
    )
    assert from_plain(FitReport, json.loads(json.dumps(to_plain(report)))) == report
