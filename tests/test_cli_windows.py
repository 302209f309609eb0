"""`ropewalk windows` on a fake engine whose layers' losses are known, and on a tiny model in float64."""

from __future__ import annotations

import json
import shlex
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli_running import CommandLine, Outcome, run_process
from fake_engine import FakeEngine
from method_oracles import dprope, none
from reference_transformer import Float64, Positions
from ropewalk.engine import Engine, EngineOptions
from ropewalk.evaluation.layer_windows_probes import calibration_texts
from ropewalk_convert import bake
from ropewalk_plan import ContextPlan, GgufHeader, read_plan
from tiny_gemma3 import write_tiny_gemma3
from tiny_models import TinyModel, write_tiny_model
from windowed_memory import windowed_logits

N_LAYER = 8
COSTS = (0.0, 0.0, 4.0, 0.05, 0.1, 2.0, 0.0, 0.05)
"""Nats that a window in a layer takes from a key; more than 0.25 together is too much: 2 and 5 stay full."""

SMALL = ("--window", "64", "--lengths", "300,600", "--depths", "0.1", "--threads", "1")
CHECK = ("--check-lengths", "400,500", "--check-depths", "0.1,0.5", "--check-trials", "1", "--pairs", "2")
QUICK = (*SMALL, *CHECK)


def cost_of(plan: ContextPlan | None) -> float:
    windows = () if plan is None else plan.windows
    return sum(cost for cost, window in zip(COSTS, windows, strict=False) if window)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> CommandLine:
    """An engine that gives a key's digits the log-probability -0.1 less their share of the windows' costs."""
    command = CommandLine(monkeypatch, capfd)
    engine = FakeEngine(plan=None, train_length=1024)

    def log_probability(tokens: Sequence[int], at: int, plan: ContextPlan | None) -> float:
        (word,) = engine.words_of([tokens[at]])
        return -0.1 - cost_of(plan) / 5 if word.removeprefix("literal:").isdigit() else -0.1

    engine.log_probability = log_probability
    command.engine = engine
    return command


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("windows") / "model.gguf"
    return write_tiny_model(path, n_layer=N_LAYER, train_length=1024, seed=3).path


def results(file: Path) -> dict[str, Any]:
    value = json.loads(file.read_text())
    assert isinstance(value, dict)
    return value


def bake_command(outcome: Outcome) -> list[str]:
    (line,) = [line for line in outcome.stdout.splitlines() if line.strip().startswith("ropewalk bake")]
    return shlex.split(line)[1:]


class TestWhatIsFound:
    def test_the_layers_that_cost_nothing_get_a_window(
        self, command: CommandLine, model: Path, tmp_path: Path
    ) -> None:
        file = tmp_path / "results.json"
        outcome = command("windows", model, *QUICK, "--json", file)
        assert outcome.exit_code == 0, outcome.stderr
        (summary,) = results(file)["summary"]
        assert summary["windowed"] == [0, 1, 3, 4, 6, 7]
        assert [round(layer["loss"], 6) for layer in summary["layers"]] == list(COSTS)
        assert "6 of 8 layers can have the window (0-1, 3-4, 6-7)" in outcome.stdout
        assert results(file)["complete"] is True

    def test_a_larger_loss_allowed_windows_more(
        self, command: CommandLine, model: Path, tmp_path: Path
    ) -> None:
        file = tmp_path / "results.json"
        limits = ("--max-loss", "2.5", "--max-drop", "3")
        assert command("windows", model, *QUICK, *limits, "--json", file).exit_code == 0
        assert results(file)["summary"][0]["windowed"] == [0, 1, 3, 4, 5, 6, 7]

    def test_none_can_be_a_finding(self, command: CommandLine, model: Path) -> None:
        command.engine.log_probability = lambda tokens, at, plan: -0.1 if plan is None else -9.0
        outcome = command("windows", model, *QUICK)
        assert outcome.exit_code == 0
        assert "No layer can have this window within the loss allowed" in outcome.stdout
        assert "ropewalk bake" not in outcome.stdout

    @pytest.mark.parametrize(
        "method",
        [
            (),
            ("--target-length", "2048"),
            ("--method", "yarn+logn", "--target-length", "2048", "--method-option", "beta_fast=16"),
            ("--method", "dprope", "--target-length", "4096", "--rope-layers", "all"),
            ("--method", "dynamic-ntk", "--target-length", "4096", "--train-length", "512"),
        ],
    )
    def test_the_plan_it_writes_is_the_one_it_measured(
        self, command: CommandLine, model: Path, tmp_path: Path, method: tuple[str, ...]
    ) -> None:
        """The printed command is run as it stands; all that is bent is where its file goes."""
        outcome = command("windows", model, *QUICK, *method)
        assert outcome.exit_code == 0, outcome.stderr
        windowed = [plan for plan in command.engine.used_plans if plan is not None and cost_of(plan) == 0.2]
        assert windowed
        arguments = bake_command(outcome)
        assert arguments[:2] == ["bake", str(model)]
        arguments[2] = str(tmp_path / arguments[2])

        assert command(*arguments).exit_code == 0

        stored = read_plan(GgufHeader.read(tmp_path / "model-windows.gguf"))
        assert stored is not None
        assert set(windowed) == {stored.plan}
        assert [bool(window) for window in stored.plan.windows] == [cost <= 0.1 for cost in COSTS]
        reference = next(plan for plan in command.engine.used_plans if plan is None or not plan.windows)
        assert stored.plan.schedule == (reference.schedule if reference else ())
        full_only = bool(stored.plan.schedule) and "all" not in method
        assert stored.plan.rope_layers == ((2, 5) if full_only else None)


class TestTheCheck:
    def test_it_asks_fresh_prompts_under_both_plans(
        self, command: CommandLine, model: Path, tmp_path: Path
    ) -> None:
        file = tmp_path / "results.json"
        outcome = command("windows", model, *QUICK, "--json", file)
        rows = results(file)["results"]
        asked = [row for row in rows if row["part"] == "check"]
        plain, windowed = "none", "windows, 6 of 8 layers"
        assert [row["method"] for row in asked] == [plain, plain, windowed, windowed] * 2
        assert [row["length"] for row in asked] == [400] * 4 + [500] * 4
        assert {row["depth"] for row in asked} == {0.1, 0.5}
        keys = {row["expected"][0] for row in asked}
        assert len(keys) == 4
        (summary,) = results(file)["summary"]
        assert [hits["hits"] for hits in summary["hits"]] == [4, 4]
        said = " ".join(outcome.stdout.split())
        assert "Fresh passkey prompts: 4/4, 100% (51% to 100%) with the windows, 4/4, 100%" in said

    def test_turns_alternate_and_tell_what_the_library_says_of_memory(
        self, command: CommandLine, model: Path, tmp_path: Path
    ) -> None:
        file = tmp_path / "results.json"
        command("windows", model, *SMALL, *CHECK[:-1], "3", "--json", file)
        turns = [row for row in results(file)["results"] if row["part"] == "turn"]
        plain, windowed = "none", "windows, 6 of 8 layers"
        assert [(row["turn"], row["plan"]) for row in turns] == [
            *((0, plain), (0, windowed)),
            *((1, windowed), (1, plain)),
            *((2, plain), (2, windowed)),
        ]
        assert {row["prompt_tokens"] for row in turns} == {500}
        assert {row["kv_bytes"] for row in turns} == {768 * 16}  # the fake's cells
        assert results(file)["summary"][0]["turns"]["pairs"] == 3

    def test_windows_that_lose_keys_are_said_to(self, command: CommandLine, model: Path) -> None:
        engine = command.engine
        right = engine.respond

        def respond(prompt: str) -> str:
            windowed = engine.used_plans[-1] is not None
            return " 1 2 3" if windowed else right(prompt)

        engine.respond = respond
        outcome = command("windows", model, *QUICK)
        assert outcome.exit_code == 0
        assert "The windows lose keys" in outcome.stdout

    def test_it_can_be_left_out(self, command: CommandLine, model: Path, tmp_path: Path) -> None:
        file = tmp_path / "results.json"
        without = ("--check-trials", "0", "--pairs", "0")
        assert command("windows", model, *SMALL, *without, "--json", file).exit_code == 0
        assert {row["part"] for row in results(file)["results"]} == {"calibration"}
        assert results(file)["summary"][0]["hits"] is None


class TestGivenLayers:
    def test_they_are_checked_without_a_search(
        self, command: CommandLine, model: Path, tmp_path: Path
    ) -> None:
        file, page = tmp_path / "results.json", tmp_path / "page.html"
        outcome = command("windows", model, *QUICK, "--layers", "0-2,6", "--json", file, "--html", page)
        assert outcome.exit_code == 0, outcome.stderr
        rows = results(file)["results"]
        assert {row["part"] for row in rows} == {"turn", "check", "check-text"}
        assert {row["method"] for row in rows if "method" in row} == {"none", "windows, 4 of 8 layers"}
        (summary,) = results(file)["summary"]
        assert summary["windowed"] == [0, 1, 2, 6]
        assert [hits["hits"] for hits in summary["hits"]] == [4, 4]
        assert "4 of 8 layers have the window (0-2, 6)." in outcome.stdout
        assert "windows=64/64/64/0/0/0/64/0" in bake_command(outcome)
        assert "4 of 8 layers have the window" in page.read_text()
        again = command("windows", model, *QUICK, "--layers", "6,0-2", "--resume", file)
        assert (again.exit_code, again.stdout) == (0, outcome.stdout)

    @pytest.mark.parametrize("layers", ["8", "3-1", "0-", "", "a", "1,,2", "-1"])
    def test_what_names_no_layers(self, command: CommandLine, model: Path, layers: str) -> None:
        outcome = command("windows", model, *QUICK, "--layers", layers)
        assert outcome.exit_code == 2
        assert "each from 0 to 7" in outcome.stderr

    def test_there_is_no_picture_of_them(self, command: CommandLine, model: Path, tmp_path: Path) -> None:
        outcome = command("windows", model, *QUICK, "--layers", "0", "--png", tmp_path / "picture.png")
        assert outcome.exit_code == 2
        assert "leave one of the two out" in outcome.stderr


class TestGoingOn:
    @pytest.mark.parametrize("after", [1, 7, 15])
    def test_what_was_measured_before_ctrl_c_is_not_measured_again(
        self, command: CommandLine, model: Path, tmp_path: Path, after: int
    ) -> None:
        """Ctrl-C while that many texts have been scored; it may come a little later."""
        whole, broken = tmp_path / "whole.json", tmp_path / "broken.json"
        assert command("windows", model, *QUICK, "--json", whole).exit_code == 0
        engine = command.engine
        scored, rule, told = len(engine.scored), engine.log_probability, threading.Event()
        assert after < scored

        def interrupted(tokens: Sequence[int], at: int, plan: ContextPlan | None) -> float:
            if len(engine.scored) > scored + after and not told.is_set():
                told.set()
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            return rule(tokens, at, plan)

        engine.log_probability = interrupted
        outcome = command("windows", model, *QUICK, "--json", broken)
        assert outcome.exit_code == 130, outcome.stderr
        assert f"--resume {broken} goes on" in outcome.stderr
        kept = [row for row in results(broken)["results"] if row["part"] in ("calibration", "check-text")]
        assert kept
        before = len(engine.scored)

        assert command("windows", model, *QUICK, "--resume", broken).exit_code == 0

        assert len(engine.scored) - before == scored - len(kept)
        assert results(broken)["summary"][0]["windowed"] == results(whole)["summary"][0]["windowed"]
        assert len(results(broken)["results"]) == len(results(whole)["results"])
        assert results(broken)["complete"] is True

    def test_a_finished_run_measures_nothing_more(
        self, command: CommandLine, model: Path, tmp_path: Path
    ) -> None:
        file = tmp_path / "results.json"
        first = command("windows", model, *QUICK, "--json", file)
        scored, read = len(command.engine.scored), len(command.engine.prefills)
        again = command("windows", model, *QUICK, "--resume", file)
        assert again.exit_code == 0
        assert (len(command.engine.scored), len(command.engine.prefills)) == (scored, read)
        assert again.stdout == first.stdout

    @pytest.mark.parametrize(
        ("other", "named"),
        [
            (("--window", "80"), "window 64, not 80"),
            (("--max-loss", "0.5"), "max loss 0.25, not 0.5"),
            (("--seed", "1"), "seed 0, not 1"),
            (("--target-length", "2048"), "is of none, not of dprope"),
        ],
    )
    def test_results_of_other_settings_are_refused(
        self, command: CommandLine, model: Path, tmp_path: Path, other: tuple[str, ...], named: str
    ) -> None:
        file = tmp_path / "results.json"
        command("windows", model, *QUICK, "--json", file)
        outcome = command("windows", model, *QUICK, *other, "--resume", file)
        assert outcome.exit_code == 2
        assert named in outcome.sentence


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            (("--window", "900"), "no key lies further back than the 904 tokens that a windowed layer sees"),
            (("--lengths", "20"), "cannot have 20 tokens"),
            (("--method", "windows", "--target-length", "2048"), "method windows decides which tokens"),
            (("--method", "streaming", "--target-length", "2048"), "method streaming decides which tokens"),
            (("--method", "none", "--target-length", "2048"), "method none decides"),
            (("--target-length", "512"), "it must be at least the train length 1024"),
            (("--method", "yarm", "--target-length", "2048"), "'yarm' is unknown"),
        ],
    )
    def test_what_cannot_be_measured(
        self, command: CommandLine, model: Path, arguments: tuple[str, ...], named: str
    ) -> None:
        outcome = command("windows", model, *QUICK, *arguments)
        assert outcome.exit_code == 2
        assert named in outcome.sentence
        assert command.engine.scored == []

    def test_a_text_that_is_too_short(self, command: CommandLine, model: Path, tmp_path: Path) -> None:
        text = tmp_path / "short.txt"
        text.write_text("Once upon a time. " * 100)
        outcome = command("windows", model, *QUICK, "--text", text)
        assert outcome.exit_code == 2
        assert "short.txt has" in outcome.sentence
        assert "are needed" in outcome.sentence

    def test_a_file_that_carries_a_plan(self, command: CommandLine, model: Path, tmp_path: Path) -> None:
        baked = tmp_path / "baked.gguf"
        bake(model, baked, method="yarn", target_length=2048)
        outcome = command("windows", baked, *QUICK)
        assert outcome.exit_code == 3
        assert outcome.sentence == (
            f"{baked} carries a plan already (yarn); name the plain file it was baked from."
        )

    def test_a_model_that_slides_by_itself(self, command: CommandLine, tmp_path: Path) -> None:
        gemma = write_tiny_gemma3(tmp_path / "gemma3.gguf")
        outcome = command("windows", gemma.path, *QUICK)
        assert outcome.exit_code == 3
        assert "gives no windows to this gemma3 model: it has windows of its own" in outcome.sentence

    def test_a_method_option_without_a_method(self, command: CommandLine, model: Path) -> None:
        outcome = command("windows", model, *QUICK, "--method-option", "threshold=0.1")
        assert outcome.exit_code == 2
        assert "Missing option '--method'" in outcome.stderr


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[TinyModel, dict[str, Any], Outcome]:
    """A run on a real library, dprope beside the windows, with a page."""
    folder = tmp_path_factory.mktemp("measured")
    tiny = write_tiny_model(folder / "tiny.gguf", n_layer=3, train_length=256, seed=5)
    outcome = run_process(
        *("windows", tiny.path, "--target-length", "512", "--window", "32", "--sinks", "2"),
        *("--lengths", "300", "--depths", "0.1", "--max-loss", "50", "--max-drop", "50"),
        *("--check-lengths", "300", "--check-depths", "0.5", "--check-trials", "1", "--pairs", "1"),
        *("--kv-type", "f32", "--threads", "1"),
        *("--json", folder / "results.json", "--html", folder / "page.html"),
    )
    assert outcome.exit_code == 0, outcome.stderr
    assert "<svg" in (folder / "page.html").read_text()
    return tiny, results(folder / "results.json"), outcome


@pytest.mark.usefixtures("patched_library")
def test_what_is_measured_is_the_float64_models_log_probability(
    measured: tuple[TinyModel, dict[str, Any], Outcome],
) -> None:
    """Of the key under each plan: windows in the layers that a row names, dprope's factors in the others."""
    tiny, value, _ = measured
    with Engine.start() as engine:
        engine.load(tiny.path, EngineOptions(n_ctx=512, threads=1))
        texts = calibration_texts(
            engine, lengths=(300,), depths=(0.1,), keys=1, seed=0, reach=34, text="", text_name=""
        )
    ((name, tokens),) = texts.tokens.items()
    rows = [row for row in value["results"] if row["part"] == "calibration" and row["probe"] == name]
    assert [row["layers"] for row in rows[:4]] == [[], [0], [1], [2]]
    assert len(rows) > 4
    for row in rows:
        layers = row["layers"]

        def force(layer: int, m: Float64, layers: list[int] = layers) -> Positions:
            return (none if layer in layers or len(layers) == 3 else dprope)(tiny, 512, m)

        windows = [32 if layer in layers else 0 for layer in range(3)]
        logits = windowed_logits(tiny, tokens, windows, 2 if layers else 0, force)
        of_all = logits[:-1] - np.log(np.sum(np.exp(logits[:-1]), axis=1, keepdims=True))
        scored = range(len(tokens) - row["scored"], len(tokens))
        expected = sum(of_all[at - 1, tokens[at]] for at in scored)
        assert row["log_probability"] == pytest.approx(expected, abs=2e-2), row


@pytest.mark.usefixtures("patched_library")
def test_the_plan_of_a_real_run_is_baked_by_its_command(
    measured: tuple[TinyModel, dict[str, Any], Outcome], tmp_path: Path
) -> None:
    _, value, outcome = measured
    arguments = bake_command(outcome)
    arguments[2] = str(tmp_path / "out.gguf")
    assert run_process(*arguments).exit_code == 0
    stored = read_plan(GgufHeader.read(tmp_path / "out.gguf"))
    assert stored is not None
    windowed = value["summary"][0]["windowed"]
    assert windowed
    assert [layer for layer, window in enumerate(stored.plan.windows) if window] == windowed
