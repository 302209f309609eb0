"""`ropewalk compare`: every candidate measured, one table, one page, kept and gone on with."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from cli_running import CommandLine, run_process
from fake_engine import FakeEngine, find_passkey
from ropewalk.engine import DoesNotFitError, ModelDescription, ModelLoadError
from ropewalk_plan import ContextPlan
from tiny_models import write_tiny_model

TRAIN, TARGET = 400, 700
COMPARE = ("--target-length", str(TARGET), "--methods", "yarn,ntk,dynamic-ntk,dprope:threshold=0.02")
METHODS = ["none", "yarn", "ntk", "dynamic-ntk", "dprope threshold=0.02"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny.gguf", train_length=TRAIN).path


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "story.txt"
    path.write_text(" ".join(f"word{i % 97} and" for i in range(2000)))
    return path


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> CommandLine:
    made = CommandLine(monkeypatch, capfd)
    made.engine = FakeEngine(plan=None, train_length=TRAIN, respond=lambda prompt: answer(made, prompt))
    return made


def answer(command: CommandLine, prompt: str) -> str:
    """Right under yarn, right for keys that begin with an odd digit under ntk, else wrong."""
    plan = command.engine.used_plans[-1] if command.engine.used_plans else None
    right = find_passkey(prompt)
    odd = int(right.strip()[0]) % 2 == 1
    return (
        right if plan is not None and (plan.method == "yarn" or (plan.method == "ntk" and odd)) else " 00000"
    )


def read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def test_every_candidate_is_measured_on_everything(
    command: CommandLine, model: Path, text: Path, tmp_path: Path
) -> None:
    file = tmp_path / "compared.json"
    outcome = command("compare", model, *COMPARE, "--text", text, "--json", file)
    assert outcome.exit_code == 0, outcome.stderr
    record = read(file)
    assert [plan["label"] for plan in record["plans"]] == METHODS
    for label in METHODS:
        rows = [row for row in record["results"] if row["method"] == label]
        assert [row["kind"] for row in rows].count("passkey") == 6
        assert {row["length"] for row in rows if row["kind"] == "perplexity"} == {TRAIN, TARGET}
        assert [row["cache_bytes"] > 0 for row in rows if row["kind"] == "memory"] == [True]
    assert record["complete"] is True


def test_it_is_sorted_by_what_was_found_and_fits_into_eighty_columns(
    command: CommandLine, model: Path, text: Path, tmp_path: Path
) -> None:
    file = tmp_path / "compared.json"
    outcome = command("compare", model, *COMPARE, "--text", text, "--json", file)
    assert max(map(len, outcome.stdout.splitlines())) <= 80
    summary = read(file)["summary"]
    assert [row["method"] for row in summary[:2]] == ["yarn", "ntk"]
    assert [row["hits"] for row in summary] == sorted((row["hits"] for row in summary), reverse=True)
    assert (summary[0]["hits"], summary[0]["trials"]) == (6, 6)
    assert summary[0]["low"] == pytest.approx(0.6097, abs=1e-4)  # Wilson's, of 6 of 6
    first = outcome.stdout.splitlines()[1].split()
    assert first[0] == "6/6"
    assert first[1] == "61-100%"
    assert first[-1] == "yarn"


def test_lengths_are_those_asked_for(command: CommandLine, model: Path, text: Path, tmp_path: Path) -> None:
    file = tmp_path / "compared.json"
    lengths = ("--lengths", "300,600", "--trials", "1", "--depths", "0.5")
    assert command("compare", model, *COMPARE, *lengths, "--text", text, "--json", file).exit_code == 0
    rows = read(file)["results"]
    assert {row["length"] for row in rows if row["kind"] == "passkey"} == {300, 600}
    assert {row["length"] for row in rows if row["kind"] == "perplexity"} == {300, TRAIN, 600}


def test_interrupted_it_goes_on_where_it_was(
    command: CommandLine, model: Path, text: Path, tmp_path: Path
) -> None:
    file = tmp_path / "compared.json"
    asked: list[str] = []
    plain = command.engine.respond

    def until_the_eighth(prompt: str) -> str:
        asked.append(prompt)
        if len(asked) == 8:
            command.engine.prefill_error = KeyboardInterrupt()  # type: ignore[assignment]
        return plain(prompt)

    command.engine.respond = until_the_eighth
    outcome = command("compare", model, *COMPARE, "--text", text, "--json", file)
    assert outcome.exit_code == 130
    assert "--resume" in outcome.stderr
    kept = read(file)["results"]
    assert sum(row["kind"] == "passkey" for row in kept) == 8
    command.engine.prefill_error = None
    outcome = command("compare", model, *COMPARE, "--text", text, "--resume", file)
    assert outcome.exit_code == 0, outcome.stderr
    assert len(asked) == 6 * len(METHODS)
    record = read(file)
    assert record["results"][: len(kept)] == kept
    assert [row["trials"] for row in record["summary"]] == [6] * len(METHODS)


def test_the_page_has_the_table_and_the_plots(
    command: CommandLine, model: Path, text: Path, tmp_path: Path
) -> None:
    page, picture = tmp_path / "compared.html", tmp_path / "compared.svg"
    outcome = command("compare", model, *COMPARE, "--text", text, "--html", page, "--png", picture)
    assert outcome.exit_code == 0, outcome.stderr
    content = page.read_text()
    for label in METHODS:
        assert label in content
    assert content.count("<svg") >= 3
    assert "6/6" in content
    assert "<script" not in content
    assert b"Share of keys found" in picture.read_bytes()


def refuse_ntk(command: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the library does where only the graph tells that a plan does not go with a model."""
    use_plan = command.engine.use_plan

    def refusing(plan: ContextPlan | None, n_ctx: int | None = None) -> ModelDescription:
        if plan is not None and plan.method == "ntk":
            raise ModelLoadError("tiny.gguf: its attention has no place for this")
        return use_plan(plan, n_ctx)

    monkeypatch.setattr(command.engine, "use_plan", refusing)


@pytest.mark.parametrize("verb", ["compare", "choose"])
def test_a_plan_that_the_library_refuses_is_listed_and_the_others_go_on(
    *,
    verb: str,
    command: CommandLine,
    model: Path,
    text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "results.json"
    refuse_ntk(command, monkeypatch)
    outcome = command(verb, model, *COMPARE, "--text", text, "--json", file)
    assert outcome.exit_code == 0, outcome.stderr
    assert "its attention has no place for this" in outcome.stdout + outcome.stderr
    record = read(file)
    assert [plan["label"] for plan in record["plans"]] == [label for label in METHODS if label != "ntk"]
    assert {row["method"] for row in record["results"]} <= {*METHODS} - {"ntk"}
    assert record["complete"] is True


def test_methods_that_need_a_tuned_model_come_with_finetuned(
    command: CommandLine, model: Path, text: Path
) -> None:
    short = ("--trials", "1", "--depths", "0.5", "--text", text)
    without = command("compare", model, "--target-length", str(3 * TRAIN), *short)
    assert re.search(r"extra-mpe: at 3 times the train length needs a model\s+fine-tuned", without.stdout)
    tuned = command("compare", model, "--target-length", str(3 * TRAIN), "--finetuned", *short)
    assert re.search(r"\d/1 .* extra-mpe", tuned.stdout)
    assert re.search(r"longrope: .* lists", tuned.stdout)


class TestRefused:
    def test_a_text_too_short(self, command: CommandLine, model: Path, tmp_path: Path) -> None:
        short = tmp_path / "short.txt"
        short.write_text("Once upon a time.")
        outcome = command("compare", model, *COMPARE, "--text", short)
        assert outcome.exit_code == 2
        assert f"{TARGET} are needed" in outcome.sentence

    def test_a_length_beyond_memory_names_the_one_that_fits(
        self, command: CommandLine, model: Path, text: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(_engine: FakeEngine, n_ctx: int) -> ModelDescription:
            raise DoesNotFitError(f"{n_ctx} need 9 GB: 640 tokens fit", needed=9, free=1, largest_n_ctx=640)

        monkeypatch.setattr(FakeEngine, "resize", full)
        outcome = command("compare", model, *COMPARE, "--text", text)
        assert outcome.exit_code == 4
        assert "640 tokens fit" in outcome.sentence
        assert command.engine.tokenized_characters == 0

    def test_a_target_within_the_train_length(self, command: CommandLine, model: Path) -> None:
        outcome = command("compare", model, "--target-length", str(TRAIN - 1))
        assert outcome.exit_code == 2
        assert "at least the train length" in outcome.sentence


@pytest.mark.usefixtures("patched_library")
def test_a_real_engine_runs_every_kind_of_candidate(tiny_qwen2: Path, tmp_path: Path) -> None:
    """Of a random model only that all of it runs, streams and schedules included, and is accounted for."""
    file = tmp_path / "compared.json"
    short = ("--depths", "0.5", "--trials", "1", "--threads", "1")
    target = ("--target-length", "448", "--train-length", "256")
    done = run_process("compare", tiny_qwen2, *target, *short, "--json", file)
    assert done.exit_code == 0, done.stderr
    record = read(file)
    labels = [plan["label"] for plan in record["plans"]]
    assert {"none", "yarn", "dynamic-ntk", "streaming", "logn", "windows"} <= set(labels)
    assert all(row["trials"] == 1 and len(row["perplexity"]) == 2 for row in record["summary"])
    by_label = {row["method"]: row for row in record["summary"]}
    lengths = {row["length"]: row["perplexity"] for row in by_label["dynamic-ntk"]["perplexity"]}
    plain = {row["length"]: row["perplexity"] for row in by_label["none"]["perplexity"]}
    assert lengths[256] == pytest.approx(plain[256], rel=1e-6)  # up to L it is the plain model
    assert lengths[448] != pytest.approx(plain[448], rel=1e-4)
