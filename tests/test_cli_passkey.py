"""`ropewalk passkey`: several methods on one model, gone on with after Ctrl-C, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from cli_running import CommandLine, run_process
from fake_engine import FakeEngine
from ropewalk.engine import DoesNotFitError, Engine, EngineOptions, ModelDescription
from ropewalk.evaluation.passkey import passkey_tasks
from ropewalk.evaluation.retrieval_order import work_of
from ropewalk_convert import bake

CELLS = ("--lengths", "700,900", "--depths", "0.2,0.8", "--trials", "2", "--threads", "1")
METHODS = ("--target-length", "1024", "--methods", "none,dynamic-ntk,yarn:beta_fast=16,windows:windows=64/0")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capfd)


def rows_of(file: Path) -> dict[tuple[Any, ...], dict[str, Any]]:
    rows = json.loads(file.read_text())["results"]
    return {(row["method"], row["length"], row["depth"], row["trial"]): row for row in rows}


@pytest.mark.usefixtures("patched_library")
class TestMethods:
    @pytest.fixture(scope="class")
    def file(self, tiny_qwen2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """The results of all methods together."""
        path = tmp_path_factory.mktemp("passkey") / "together.json"
        done = run_process("passkey", tiny_qwen2, *CELLS, *METHODS, "--json", path)
        assert done.exit_code == 0, done.stderr
        return path

    def test_each_answers_as_it_does_alone(self, tiny_qwen2: Path, file: Path, tmp_path: Path) -> None:
        together = rows_of(file)
        assert len(together) == 4 * 8
        labels = [plan["label"] for plan in json.loads(file.read_text())["plans"]]
        assert labels == ["none", "dynamic-ntk", "yarn beta_fast=16", "windows windows=64/0"]

        baked = tmp_path / "yarn.gguf"
        bake(tiny_qwen2, baked, method="yarn", target_length=1024, options={"beta_fast": "16"})
        for label, model in (("none", tiny_qwen2), ("yarn beta_fast=16", baked)):
            alone = tmp_path / f"{model.stem}.json"
            assert run_process("passkey", model, *CELLS, "--json", alone).exit_code == 0
            (method,) = {method for method, *_ in rows_of(alone)}
            assert method == label.split()[0]
            for (_, *place), row in rows_of(alone).items():
                cell = (label, *place)
                assert row["answer"] == together[cell]["answer"]

    def test_what_cells_have_in_common_is_computed_once(self, tiny_qwen2: Path, file: Path) -> None:
        with Engine.start() as engine:
            engine.load(tiny_qwen2, EngineOptions(n_ctx=0, vocabulary_only=True))
            work = work_of(passkey_tasks(engine, [700, 900], [0.2, 0.8], 2))
        rows = rows_of(file).values()
        for method in ("none", "yarn beta_fast=16", "windows windows=64/0"):
            computed = sum(row["computed_tokens"] for row in rows if row["method"] == method)
            assert computed == work.planned <= work.bound / 0.9
        assert sum(row["computed_tokens"] for row in rows if row["method"] == "dynamic-ntk") > work.planned

    def test_streams_and_others_on_one_model(self, tiny_qwen2: Path, tmp_path: Path) -> None:
        file = tmp_path / "results.json"
        methods = ("--target-length", "256", "--methods", "none,streaming,pi")
        done = run_process("passkey", tiny_qwen2, *CELLS[2:], "--lengths", "600", *methods, "--json", file)
        assert done.exit_code == 0, done.stderr
        assert {method for method, *_ in rows_of(file)} == {"none", "streaming", "pi"}
        assert len(rows_of(file)) == 3 * 4

    @pytest.mark.parametrize(
        ("arguments", "code", "words"),
        [
            (("--methods", "pi,yarn"), 2, "--target-length"),
            (("--target-length", "1024"), 2, "--method"),
            (("--methods", "pi", "--method", "pi", "--target-length", "1024"), 2, "--methods goes without"),
            (("--methods", "pi,pi", "--target-length", "1024"), 2, "pi is named twice"),
            (("--methods", "pi,,yarn", "--target-length", "1024"), 2, "METHOD"),
            (("--methods", "dprope:threshold", "--target-length", "1024"), 2, "dprope:threshold"),
            (("--methods", "yarn:beta_fast=8:beta_fast=16", "--target-length", "1024"), 2, "each name once"),
            (("--methods", "yarn:=8", "--target-length", "1024"), 2, "yarn:=8"),
            (("--methods", "none,alchemy", "--target-length", "1024"), 2, "alchemy"),
        ],
    )
    def test_what_is_no_list_of_methods(
        self, command: CommandLine, tiny_qwen2: Path, arguments: tuple[str, ...], code: int, words: str
    ) -> None:
        outcome = command("passkey", tiny_qwen2, "--lengths", "700", *arguments)
        assert outcome.exit_code == code
        assert words in outcome.sentence
        assert command.engine.contexts == [], "refused before the model is loaded"

    def test_a_file_with_a_plan_takes_no_methods(
        self, command: CommandLine, tiny_qwen2: Path, tmp_path: Path
    ) -> None:
        baked = tmp_path / "baked.gguf"
        bake(tiny_qwen2, baked, method="pi", target_length=128)
        outcome = command("passkey", baked, "--lengths", "700", *METHODS)
        assert outcome.exit_code == 3
        assert "carries a plan already (pi)" in outcome.sentence


class TestGoingOn:
    def test_an_interrupted_run_goes_on(self, command: CommandLine, tiny_qwen2: Path, tmp_path: Path) -> None:
        file = tmp_path / "results.json"
        command.engine = FakeEngine(plan=None)
        answered: list[str] = []

        def respond(prompt: str) -> str:
            if len(answered) == 3:
                raise KeyboardInterrupt
            answered.append(prompt)
            return f" {len(answered)}"

        command.engine.respond = respond
        outcome = command("passkey", tiny_qwen2, *CELLS, "--json", file)
        assert outcome.exit_code == 130
        first = rows_of(file)
        assert len(first) == 3

        command.engine = FakeEngine(plan=None)

        def go_on(prompt: str) -> str:
            answered.append(prompt)
            return " later"

        command.engine.respond = go_on
        other = command("passkey", tiny_qwen2, *CELLS, "--resume", file, "--seed", "1")
        assert other.exit_code == 2
        assert "seed 0, not 1" in other.sentence
        outcome = command("passkey", tiny_qwen2, *CELLS, "--resume", file)
        assert outcome.exit_code == 0
        assert len(answered) == len(set(answered)) == 8, "no cell is asked twice"
        record = json.loads(file.read_text())
        assert record["complete"] is True
        rows = rows_of(file)
        assert len(rows) == len(record["results"]) == 8
        assert {cell: rows[cell] for cell in first} == first
        assert [run["command"][1] for run in record["earlier"]] == ["passkey"]

        done = command("passkey", tiny_qwen2, *CELLS, "--resume", file)
        assert done.exit_code == 0
        assert len(answered) == 8, "there is nothing left to ask"

    def test_a_file_of_another_method_is_refused(
        self, command: CommandLine, tiny_qwen2: Path, tmp_path: Path
    ) -> None:
        file = tmp_path / "results.json"
        command.engine = FakeEngine(plan=None)
        assert command("passkey", tiny_qwen2, *CELLS, "--json", file).exit_code == 0
        asked = ("--method", "pi", "--target-length", "1024")
        outcome = command("passkey", tiny_qwen2, *CELLS, *asked, "--resume", file)
        assert outcome.exit_code == 2
        assert "is of none, not of pi" in outcome.sentence


class TestOutputs:
    def test_a_picture_and_a_page(self, command: CommandLine, tiny_qwen2: Path, tmp_path: Path) -> None:
        pytest.importorskip("matplotlib")
        picture, page = tmp_path / "map.png", tmp_path / "page.html"
        command.engine = FakeEngine(plan=None)
        outcome = command("passkey", tiny_qwen2, *CELLS, "--png", picture, "--html", page)
        assert outcome.exit_code == 0, outcome.stderr
        assert picture.read_bytes().startswith(b"\x89PNG")
        html = page.read_text(encoding="utf-8")
        assert "Passkey test" in html and "8/8" in html
        assert "ffective context window" in outcome.stdout
        assert max(map(len, outcome.stdout.splitlines())) <= 80


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("--lengths", "400,400"), "400 twice"),
            (("--lengths", "400", "--depths", "0.5,0.1,0.50"), "0.5 twice"),
            (("--lengths", "400,20"), "cannot have 20 tokens; the least here is"),
            (("--lengths", "400", "--trials", "0"), "0"),
        ],
    )
    def test_what_cannot_be_asked(
        self, command: CommandLine, tmp_path: Path, arguments: tuple[str, ...], words: str
    ) -> None:
        model = tmp_path / "model.gguf"
        model.touch()
        outcome = command("passkey", model, *arguments)
        assert outcome.exit_code == 2
        assert words in outcome.sentence
        assert command.engine.prefills == []

    def test_a_length_beyond_memory_is_refused_before_its_prompt_is_made(
        self, command: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(_engine: FakeEngine, n_ctx: int) -> ModelDescription:
            raise DoesNotFitError(f"{n_ctx:,} do not fit", needed=2, free=1, largest_n_ctx=5000)

        monkeypatch.setattr(FakeEngine, "resize", full)
        model = tmp_path / "model.gguf"
        model.touch()
        outcome = command("passkey", model, "--lengths", "2000000000")
        assert outcome.exit_code == 4
        assert "2,000,000,256 do not fit" in outcome.sentence
        assert command.engine.tokenized_characters < 100

    @pytest.mark.usefixtures("patched_library")
    @pytest.mark.parametrize("methods", [(), METHODS])
    def test_the_real_library_says_what_would_fit(self, tiny_qwen2: Path, methods: tuple[str, ...]) -> None:
        outcome = run_process("passkey", tiny_qwen2, "--lengths", "2000000000", *methods)
        assert outcome.exit_code == 4
        assert re.search(r"ask for a context of at most [0-9,]+ tokens\.$", outcome.sentence)

    def test_a_model_without_digits(
        self, command: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plain = FakeEngine.detokenize
        monkeypatch.setattr(
            FakeEngine, "detokenize", lambda engine, tokens: plain(engine, tokens).replace("8", "")
        )
        model = tmp_path / "model.gguf"
        model.touch()
        outcome = command("passkey", model, "--lengths", "400")
        assert outcome.exit_code == 3
        assert "has no token for 8" in outcome.sentence
