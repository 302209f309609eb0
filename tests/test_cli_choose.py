"""`ropewalk choose`: what it asks, says, keeps and refuses, on a fake engine with known scores."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from cli_running import CommandLine
from fake_engine import FakeEngine, find_passkey
from ropewalk.cli.run import run
from ropewalk.engine import DoesNotFitError, ModelDescription
from ropewalk_plan import GgufHeader, read_plan
from tiny_models import write_tiny_model

TRAIN, TARGET = 400, 900
CHOOSE = ("--target-length", str(TARGET), "--methods", "yarn,ntk,dprope:threshold=0.02")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file whose header the candidates are made for; its name needs quoting in a shell."""
    return write_tiny_model(tmp_path_factory.mktemp("my models") / "tiny.gguf", train_length=TRAIN).path


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "story.txt"
    path.write_text(" ".join(f"word{i % 97} and" for i in range(2000)))
    return path


class Scored(FakeEngine):
    """Answers by the plan in force: the first so many of each plan's answers are right.

    Attributes:
        hits: by method; none for one that is not there.
        answered: the methods that were asked at the target length, in order.
        stop_after: answers after which Ctrl-C is pressed.
    """

    def __init__(self, hits: dict[str, int], stop_after: int | None = None) -> None:
        super().__init__(plan=None, train_length=TRAIN, respond=self._respond)
        self.hits, self.stop_after = hits, stop_after
        self.answered: list[str] = []

    def _respond(self, prompt: str) -> str:
        plan = self.used_plans[-1] if self.used_plans else None
        method = "none" if plan is None else plan.method
        if len(self.tokenize_words(prompt)) <= TRAIN:
            return find_passkey(prompt)
        self.answered.append(method)
        if len(self.answered) == self.stop_after:
            # pressed while the next one is read
            self.prefill_error = KeyboardInterrupt()  # type: ignore[assignment]
        return find_passkey(prompt) if self.answered.count(method) <= self.hits.get(method, 0) else " 00000"

    def tokenize_words(self, prompt: str) -> list[int]:
        return self.words.tokenize(prompt, add_special=True, parse_special=False)


class Choosing(CommandLine):
    """The command line on such an engine."""

    engine: Scored


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Choosing:
    made = Choosing(monkeypatch, capfd)
    made.engine = Scored(hits={"yarn": 6})
    return made


def results(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def test_it_chooses_says_why_and_how_to_bake_it(
    command: Choosing, model: Path, text: Path, tmp_path: Path
) -> None:
    file = tmp_path / "choice.json"
    outcome = command("choose", model, *CHOOSE, "--text", text, "--json", file)
    assert outcome.exit_code == 0, outcome.stderr
    said = " ".join(outcome.stdout.split())
    assert "Round 1, how much the rotary angles are disturbed" in said
    assert "Round 2, perplexity of the first tokens (tokens 2 to 400)" in said
    assert "Choice: yarn: it found 6 of 6 keys at 900 tokens, where the plain model found 0 of 1." in said
    assert max(map(len, outcome.stdout.splitlines()[:-1])) <= 80
    assert re.search(r"It will read from [\d,]+ to [\d,]+ tokens", outcome.stderr)
    (summary,) = results(file)["summary"]
    assert (summary["choice"], summary["decided"]) == ("yarn", True)
    assert {row["method"]: row["hits"] for row in summary["race"]}["yarn"] == 6
    assert results(file)["complete"] is True


def test_the_command_it_writes_bakes_the_choice(command: Choosing, model: Path, text: Path) -> None:
    outcome = command("choose", model, *CHOOSE, "--text", text)
    line = outcome.stdout.splitlines()[-1]
    program, *arguments = shlex.split(line)
    assert program == "ropewalk"
    assert run(arguments) == 0
    stored = read_plan(GgufHeader.read(Path(arguments[2])))
    assert stored is not None
    assert (stored.plan.method, stored.plan.target_length) == ("yarn", TARGET)


def test_as_json_on_stdout_nothing_else_stands_there(command: Choosing, model: Path, text: Path) -> None:
    command.engine = Scored(hits={"dprope": 5})
    outcome = command("choose", model, *CHOOSE, "--text", text, "--json", "-")
    (summary,) = json.loads(outcome.stdout)["summary"]
    assert summary["choice"] == "dprope threshold=0.02"
    assert "--method-option threshold=0.02" in summary["command"]


def test_the_page_tells_the_same(command: Choosing, model: Path, text: Path, tmp_path: Path) -> None:
    page = tmp_path / "choice.html"
    assert command("choose", model, *CHOOSE, "--text", text, "--html", page).exit_code == 0
    content = page.read_text()
    assert "yarn: it found 6 of 6 keys" in content
    assert "<script" not in content
    assert "--method yarn" in content


def test_interrupted_it_goes_on_where_it_was_and_asks_nothing_twice(
    command: Choosing, model: Path, text: Path, tmp_path: Path
) -> None:
    whole, part = tmp_path / "whole.json", tmp_path / "part.json"
    scores = {"yarn": 4, "ntk": 1, "dprope": 2}
    command.engine = engine = Scored(scores)
    assert command("choose", model, *CHOOSE, "--text", text, "--json", whole).exit_code == 0
    in_one_go = engine.answered

    command.engine = engine = Scored(scores, stop_after=5)
    outcome = command("choose", model, *CHOOSE, "--text", text, "--json", part)
    assert outcome.exit_code == 130
    assert "--resume" in outcome.stderr
    assert results(part)["complete"] is False
    before = engine.answered
    left = {method: n - before.count(method) for method, n in scores.items()}
    command.engine = engine = Scored(left)
    outcome = command("choose", model, *CHOOSE, "--text", text, "--resume", part)
    assert outcome.exit_code == 0, outcome.stderr
    assert [*before, *engine.answered] == in_one_go
    assert results(part)["summary"] == results(whole)["summary"]


def test_a_finished_run_is_shown_again_without_measuring(
    command: Choosing, model: Path, text: Path, tmp_path: Path
) -> None:
    file = tmp_path / "choice.json"
    command("choose", model, *CHOOSE, "--text", text, "--json", file)
    command.engine = engine = Scored(hits={})
    outcome = command("choose", model, *CHOOSE, "--text", text, "--resume", file)
    assert outcome.exit_code == 0
    assert engine.answered == []
    assert "Choice: yarn" in outcome.stdout


def test_a_budget_too_small_for_anything_is_told(command: Choosing, model: Path, text: Path) -> None:
    outcome = command("choose", model, *CHOOSE, "--text", text, "--budget", "0.0000001")
    assert outcome.exit_code == 1
    assert "A budget of 1e-07 minutes is too small" in outcome.stderr.splitlines()[-1]
    assert outcome.stdout == ""


def test_a_budget_that_ends_is_told_and_can_be_gone_on_from(
    command: Choosing, model: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "choice.json"
    clock = iter(range(0, 10**6, 10))  # ten seconds from one look at the clock to the next
    monkeypatch.setattr("ropewalk.evaluation.choose_evidence.now", lambda: float(next(clock)))
    outcome = command("choose", model, *CHOOSE, "--text", text, "--json", file, "--budget", "1.5")
    assert outcome.exit_code == 0
    assert "The budget of 1.5 minutes ended before another answer of yarn at 900 tokens" in outcome.stderr
    assert "not run to its end" in " ".join(outcome.stdout.split())
    assert 0 < len(command.engine.answered) < 8
    command.engine = Scored(hits={"yarn": 6})
    outcome = command("choose", model, *CHOOSE, "--text", text, "--resume", file)
    assert outcome.exit_code == 0
    assert "Choice: yarn: it found 6 of 6" in outcome.stdout


@pytest.mark.parametrize("target", [TRAIN, TRAIN - 100])
def test_nothing_is_needed_within_the_train_length(command: Choosing, model: Path, target: int) -> None:
    outcome = command("choose", model, "--target-length", str(target))
    assert outcome.exit_code == 0
    assert "Nothing is needed" in outcome.stdout
    assert command.engine.options is None  # nothing was loaded


def test_what_is_left_out_is_told_with_the_reason(command: Choosing, model: Path, text: Path) -> None:
    outcome = command("choose", model, "--target-length", str(TARGET), "--text", text)
    assert re.search(r"extra-pe: .*needs a model fine-tuned with it", outcome.stderr)
    assert re.search(r"streaming: forgets", outcome.stderr)
    assert re.search(r"dprope threshold=\S+: the same plan as dprope threshold=", outcome.stderr)


def test_a_train_length_too_short_for_a_passkey_has_no_control(
    command: Choosing, text: Path, tmp_path: Path
) -> None:
    file = tmp_path / "choice.json"
    short = write_tiny_model(tmp_path / "short.gguf", train_length=64).path
    command.engine.hits = {}
    target = ("--target-length", "500", "--methods", "ntk", "--trials", "1")
    outcome = command("choose", short, *target, "--text", text, "--json", file)
    assert outcome.exit_code == 0, outcome.stderr
    (summary,) = results(file)["summary"]
    assert summary["control"] is None
    assert (summary["choice"], [row["hits"] for row in summary["race"]]) == ("none", [0, 0])
    assert "take a shorter target length" in " ".join(outcome.stdout.split())


class TestRefused:
    def test_a_text_too_short(self, command: Choosing, model: Path, tmp_path: Path) -> None:
        short = tmp_path / "short.txt"
        short.write_text("Once upon a time.")
        outcome = command("choose", model, *CHOOSE, "--text", short)
        assert outcome.exit_code in (2, 3)
        assert outcome.stderr.splitlines()[-1].endswith("400 are needed: give a longer text.")

    def test_a_length_beyond_memory_names_the_one_that_fits(
        self, command: Choosing, model: Path, text: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(_engine: FakeEngine, n_ctx: int) -> ModelDescription:
            raise DoesNotFitError(f"{n_ctx} need 9 GB: 640 tokens fit", needed=9, free=1, largest_n_ctx=640)

        monkeypatch.setattr(FakeEngine, "resize", full)
        outcome = command("choose", model, *CHOOSE, "--text", text)
        assert outcome.exit_code == 4
        assert "640 tokens fit" in outcome.sentence
        assert command.engine.tokenized_characters == 0

    def test_results_of_another_model(
        self, command: Choosing, model: Path, text: Path, tmp_path: Path
    ) -> None:
        file = tmp_path / "choice.json"
        command("choose", model, *CHOOSE, "--text", text, "--json", file)
        other = write_tiny_model(tmp_path / "other.gguf", train_length=TRAIN, n_layer=3, seed=9).path
        outcome = command("choose", other, *CHOOSE, "--text", text, "--resume", file)
        assert outcome.exit_code == 2
        assert "another model" in outcome.stderr.splitlines()[-1]

    def test_results_with_other_keys(
        self, command: Choosing, model: Path, text: Path, tmp_path: Path
    ) -> None:
        file = tmp_path / "choice.json"
        command("choose", model, *CHOOSE, "--text", text, "--json", file)
        outcome = command("choose", model, *CHOOSE, "--text", text, "--resume", file, "--trials", "3")
        assert outcome.exit_code == 2
        assert "trials" in outcome.stderr.splitlines()[-1]

    def test_a_file_with_a_plan(self, command: Choosing, model: Path, tmp_path: Path) -> None:
        from ropewalk_convert import bake

        baked = tmp_path / "baked.gguf"
        bake(model, baked, method="yarn", target_length=TARGET)
        outcome = command("choose", baked, "--target-length", str(2 * TARGET))
        assert outcome.exit_code == 3
        assert "carries a plan already (yarn)" in outcome.sentence

    def test_a_method_that_there_is_not(self, command: Choosing, model: Path) -> None:
        outcome = command("choose", model, "--target-length", str(TARGET), "--methods", "yarm")
        assert outcome.exit_code == 2
        assert "'yarm' is unknown" in outcome.sentence
