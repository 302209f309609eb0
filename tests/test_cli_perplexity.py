"""`ropewalk perplexity`: what is measured, kept, shown and refused, on a fake engine; once on a real one."""

from __future__ import annotations

import itertools
import json
import math
import re
import xml.etree.ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cli_running import CommandLine, run_process
from fake_engine import DPROPE_LIKE, FakeEngine
from ropewalk.engine import DoesNotFitError, EngineDied
from ropewalk.evaluation.token_blocks import FEWEST_CLUSTERS
from ropewalk_convert import bake
from ropewalk_plan import ContextPlan

WORDS = 3000
METHODS = ("--methods", "none,yarn,dprope:threshold=0.05", "--target-length", "2048")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> CommandLine:
    made = CommandLine(monkeypatch, capfd)
    made.engine = FakeEngine(plan=None)
    made.engine.log_probability = by_token
    return made


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.touch()
    return path


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "book.txt"
    letters = "abcdefghijklmnopqrstuvwxyz"
    path.write_text(
        "".join(f" {letters[i % 26]}{letters[i // 26 % 26]}{letters[i // 676]}" for i in range(WORDS))
    )
    return path


def by_token(tokens: Sequence[int], at: int, plan: ContextPlan | None) -> float:
    """Far worse past 500 tokens without a plan, and a little worse everywhere under one."""
    return -(2.0 + math.sin(tokens[at]) + (0.02 if plan is not None else 2.0 if at >= 500 else 0.0))


def mean_loss(tokens: Sequence[int], first: int, plan: ContextPlan | None = None) -> float:
    return sum(-by_token(tokens, at, plan) for at in range(first, len(tokens))) / (len(tokens) - first)


def tokens_of(engine: FakeEngine, text: Path) -> list[int]:
    tokens = engine.words.tokenize(text.read_text(), add_special=False, parse_special=False)
    assert len(tokens) == WORDS
    return tokens


def read(path: Path) -> dict[str, Any]:
    value = json.loads(path.read_text())
    assert isinstance(value, dict)
    return value


class TestTruncated:
    def test_one_pass_a_window_from_evenly_spread_places(
        self, command: CommandLine, model: Path, text: Path, tmp_path: Path
    ) -> None:
        file = tmp_path / "results.json"
        outcome = command(
            "perplexity", model, text, "--lengths", "1000,100,400", "--windows", "3", "--json", file
        )
        assert outcome.exit_code == 0, outcome.stderr
        engine, kept = command.engine, read(file)
        tokens = tokens_of(engine, text)

        assert engine.scored == [(0, 100), (99, 400), (399, 1000)] * 3
        assert engine.options is not None
        assert engine.options.n_scored > 16
        assert engine.contexts[-1] == 1000
        assert (kept["test"], kept["complete"]) == ("perplexity", True)
        assert kept["settings"]["windows"] == 3
        assert kept["settings"]["start_tokens"] == 1
        rows = kept["results"]
        assert [(row["window"], row["length"]) for row in rows] == [
            (window, length) for window in range(3) for length in (100, 400, 1000)
        ]
        for row in rows:
            start = (0, (WORDS - 999) // 2, WORDS - 999)[row["window"]]
            assert row["start"] == start
            window = [0, *tokens[start : start + row["length"] - 1]]
            assert row["n_scored"] == row["length"] - 1
            assert row["perplexity"] == pytest.approx(math.exp(mean_loss(window, 1)))
        for line in kept["summary"]:
            of_length = [row for row in rows if row["length"] == line["length"]]
            assert line["n_scored"] == 3 * (line["length"] - 1)
            total = sum(row["nll"] for row in of_length) / line["n_scored"]
            assert line["perplexity"] == pytest.approx(math.exp(total))
            assert line["low"] is None or line["low"] < line["perplexity"] < line["high"]

    def test_all_windows_stand_one_behind_the_other(
        self, command: CommandLine, model: Path, text: Path, tmp_path: Path
    ) -> None:
        """As llama.cpp's tool has them: one token is passed over for each start token but the first."""
        file = tmp_path / "results.json"
        command("perplexity", model, text, "--lengths", "1000", "--windows", "all", "--json", file)

        assert [row["start"] for row in read(file)["results"]] == [0, 1000, 2000]

    def test_what_counts_may_begin_later(
        self, command: CommandLine, model: Path, text: Path, tmp_path: Path
    ) -> None:
        file = tmp_path / "results.json"
        command("perplexity", model, text, "--lengths", "300", "--score-from", "0.5", "--json", file)
        (row,) = read(file)["results"]
        tokens = tokens_of(command.engine, text)

        assert row["n_scored"] == 149
        assert row["perplexity"] == pytest.approx(math.exp(mean_loss([0, *tokens[:299]], 151)))

    def test_without_a_text_there_is_one(self, command: CommandLine, model: Path) -> None:
        outcome = command("perplexity", model, "--lengths", "200")
        assert outcome.exit_code == 0
        assert "Perplexity of Persuasion (" in outcome.stdout

    def test_several_texts_are_one(
        self, command: CommandLine, model: Path, text: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "other.txt").write_text("Another text.")
        outcome = command("perplexity", model, text, tmp_path / "other.txt", "--lengths", "200")
        assert outcome.exit_code == 0
        assert "Perplexity of " in outcome.stdout


class TestSliding:
    def test_the_same_tokens_at_every_length(
        self, command: CommandLine, model: Path, text: Path, tmp_path: Path
    ) -> None:
        file = tmp_path / "results.json"
        outcome = command(
            *("perplexity", model, text, "--lengths", "300,600", "--stride", "128", "--windows", "4"),
            *("--json", file),
        )
        assert outcome.exit_code == 0, outcome.stderr
        tokens = tokens_of(command.engine, text)
        rows = read(file)["results"]

        assert len(rows) == 8
        assert {row["start"] for row in rows if row["length"] == 300} == {
            row["start"] for row in rows if row["length"] == 600
        }
        assert min(row["start"] for row in rows) == 599 - 128
        for row in rows:
            end = row["start"] + 128
            window = [0, *tokens[end - (row["length"] - 1) : end]]
            assert (row["stride"], row["n_scored"]) == (128, 128)
            assert row["perplexity"] == pytest.approx(math.exp(mean_loss(window, row["length"] - 128)))
        assert command.engine.scored == [(0, 300), (0, 600)] * 4
        assert "the last 128 tokens" in outcome.stdout

    def test_by_default_some_and_all_where_it_is_wished(
        self, command: CommandLine, model: Path, text: Path, tmp_path: Path
    ) -> None:
        for windows, number in (((), 16), (("--windows", "all"), (WORDS - 199) // 100 + 1)):
            file = tmp_path / f"{number}.json"
            outcome = command(
                *("perplexity", model, text, "--lengths", "200", "--stride", "100", "--json", file, *windows)
            )
            assert outcome.exit_code == 0
            starts = [row["start"] for row in read(file)["results"]]
            assert len(starts) == number
            assert (starts[0], starts[-1]) == (99, 99 + (WORDS - 199) // 100 * 100)
            assert all(later - earlier >= 100 for earlier, later in itertools.pairwise(starts))


class TestMethods:
    def test_side_by_side_on_the_same_tokens(
        self, command: CommandLine, tiny_llama: Path, text: Path, tmp_path: Path
    ) -> None:
        file = tmp_path / "results.json"
        outcome = command(
            *("perplexity", tiny_llama, text, "--lengths", "400,1000", "--windows", "2", *METHODS),
            *("--json", file),
        )
        assert outcome.exit_code == 0, outcome.stderr
        kept = read(file)

        labels = ["none", "yarn", "dprope threshold=0.05"]
        assert [plan["label"] for plan in kept["plans"]] == labels
        assert [plan["plan"] is None for plan in kept["plans"]] == [True, False, False]
        assert [(line["length"], line["method"]) for line in kept["summary"]] == [
            (length, label) for length in (400, 1000) for label in labels
        ]
        for line in kept["summary"]:
            if line["method"] == "none":
                assert (line["ratio"], line["ratio_low"]) == (None, None)
            elif line["length"] == 400:  # 0.02 nats more for every token, with no doubt at all
                assert line["ratio"] == pytest.approx(math.exp(0.02))
                assert line["ratio_low"] == pytest.approx(math.exp(0.02))
                assert line["high"] / line["low"] > 1.01
            else:
                assert line["ratio"] == pytest.approx(math.exp(0.02 - 2.0 * 500 / 999))
        assert "AGAINST none" in outcome.stdout
        assert "1.020 (1.020 to 1.020)" in outcome.stdout
        assert command.engine.used_plans[-1] is not None

    def test_a_files_own_plan_is_measured_as_it_is(
        self, command: CommandLine, model: Path, text: Path, tmp_path: Path
    ) -> None:
        command.engine.plan = DPROPE_LIKE
        file = tmp_path / "results.json"
        outcome = command("perplexity", model, text, "--lengths", "400", "--json", file)
        assert outcome.exit_code == 0
        assert read(file)["results"][0]["method"] == "dprope"
        assert command.engine.used_plans == []

    def test_a_file_with_a_plan_takes_no_other(
        self, command: CommandLine, tiny_llama: Path, text: Path, tmp_path: Path
    ) -> None:
        baked = tmp_path / "baked.gguf"
        bake(tiny_llama, baked, method="yarn", target_length=2048)
        outcome = command("perplexity", baked, text, "--lengths", "400", *METHODS)
        assert outcome.exit_code == 3
        assert "carries a plan already (yarn)" in outcome.sentence


class TestStopping:
    def interrupted(self, command: CommandLine, tiny_llama: Path, text: Path, file: Path, after: int) -> None:
        calls = [0]

        def until(tokens: Sequence[int], at: int, plan: ContextPlan | None) -> float:
            calls[0] += 1
            if calls[0] > after:
                raise KeyboardInterrupt
            return by_token(tokens, at, plan)

        command.engine.log_probability = until
        outcome = command(*self.arguments(tiny_llama, text), "--json", file)
        command.engine.log_probability = by_token
        assert outcome.exit_code == 130
        kept = len(read(file)["results"])
        assert f"{kept} of 12 results" in outcome.stderr
        assert f"--resume {file} goes on" in outcome.stderr
        assert "not all that was asked for" in outcome.stdout
        assert read(file)["complete"] is False
        assert command.engine.closed

    @staticmethod
    def arguments(model: Path, text: Path) -> tuple[str | Path, ...]:
        return ("perplexity", model, text, "--lengths", "400,1000", "--windows", "2", *METHODS)

    @pytest.mark.parametrize("after", [450, 1500, 3500])
    def test_what_is_done_is_kept_and_gone_on_from(
        self, command: CommandLine, tiny_llama: Path, text: Path, tmp_path: Path, after: int
    ) -> None:
        whole, part = tmp_path / "whole.json", tmp_path / "part.json"
        assert command(*self.arguments(tiny_llama, text), "--json", whole).exit_code == 0
        self.interrupted(command, tiny_llama, text, part, after)
        before = read(part)["results"]
        assert 0 < len(before) < 12
        command.engine.scored.clear()

        outcome = command(*self.arguments(tiny_llama, text), "--resume", part)

        assert outcome.exit_code == 0, outcome.stderr
        kept, wanted = read(part), read(whole)
        assert kept["complete"] is True
        assert kept["results"][: len(before)] == before
        assert [_without_time(row) for row in kept["results"]] == [
            _without_time(row) for row in wanted["results"]
        ]
        assert [_without_time(line) for line in kept["summary"]] == [
            _without_time(line) for line in wanted["summary"]
        ]
        computed = sum(total - held for held, total in command.engine.scored)
        assert computed <= (6 - len(before) // 2) * 1001

    def test_before_anything_is_measured_nothing_is_written(
        self, command: CommandLine, tiny_llama: Path, text: Path, tmp_path: Path
    ) -> None:
        def at_once(_tokens: Sequence[int], _at: int, _plan: ContextPlan | None) -> float:
            raise KeyboardInterrupt

        command.engine.log_probability = at_once
        file = tmp_path / "results.json"
        outcome = command(*self.arguments(tiny_llama, text), "--json", file)
        assert (outcome.exit_code, file.exists()) == (130, False)
        assert outcome.stdout == ""

    def test_a_dying_engine_keeps_what_is_done(
        self, command: CommandLine, model: Path, text: Path, tmp_path: Path
    ) -> None:
        calls = [0]

        def until(tokens: Sequence[int], at: int, plan: ContextPlan | None) -> float:
            calls[0] += 1
            if calls[0] == 600:
                command.engine.score_error = EngineDied("was killed by SIGKILL")
            return by_token(tokens, at, plan)

        command.engine.log_probability = until
        file = tmp_path / "results.json"
        outcome = command("perplexity", model, text, "--lengths", "400,800,1000", "--json", file)
        assert outcome.exit_code == 1
        assert "SIGKILL" in outcome.sentence
        assert [row["length"] for row in read(file)["results"]] == [400, 800]

    def test_another_text_is_not_gone_on_with(
        self, command: CommandLine, tiny_llama: Path, text: Path, tmp_path: Path
    ) -> None:
        part = tmp_path / "part.json"
        self.interrupted(command, tiny_llama, text, part, 1500)
        before = part.read_text()
        text.write_text(text.read_text() + " more")
        outcome = command(*self.arguments(tiny_llama, text), "--resume", part)
        assert outcome.exit_code == 2
        assert "was made with text" in outcome.sentence
        assert part.read_text() == before


class TestRefused:
    @pytest.mark.parametrize(
        ("arguments", "why"),
        [
            (("--lengths", "9000"), r"The text has 3,000 tokens .* 8,999: give a longer text"),
            (("--lengths", "1200", "--windows", "3"), "3 windows would take 3,597: use --windows 2, give"),
            (("--lengths", "1000", "--stride", "500", "--windows", "9"), "9 windows .* use --windows 5"),
            (("--lengths", "1,200"), "1 leaves no token to score; use 2 or more"),
            (("--lengths", "200", "--stride", "200"), "200 tokens cannot be scored in a window of 200"),
            (("--lengths", "200", "--stride", "0"), "--stride"),
            (
                ("--lengths", "200", "--windows", "0"),
                "'0' is neither a number of windows, from 1 on, nor all",
            ),
            (("--lengths", "200", "--windows", "many"), "'many' is neither a number"),
            (("--lengths", "200", "--score-from", "1"), "--score-from"),
            (("--lengths", "9", "--score-from", "0.95"), "from 0.95 on, 9 tokens leave none to score"),
            (
                ("--lengths", "200", "--stride", "9", "--score-from", "0.5"),
                "--score-from goes without --stride",
            ),
            ((), "Missing option '--lengths'"),
        ],
    )
    def test_what_cannot_be_measured(
        self, command: CommandLine, model: Path, text: Path, arguments: tuple[str, ...], why: str
    ) -> None:
        outcome = command("perplexity", model, text, *arguments)
        assert outcome.exit_code == 2
        assert re.search(why, outcome.sentence), outcome.sentence
        assert command.engine.scored == []

    def test_pages_of_no_text(self, command: CommandLine, model: Path) -> None:
        outcome = command("perplexity", model, "--lengths", "200", "--pages", "1-2")
        assert outcome.exit_code == 2
        assert "choose from a TEXT: name one" in outcome.sentence

    def test_a_text_that_is_not_there(self, command: CommandLine, model: Path, tmp_path: Path) -> None:
        outcome = command("perplexity", model, tmp_path / "none.txt", "--lengths", "200")
        assert outcome.exit_code == 3
        assert "none.txt" in outcome.sentence

    def test_lengths_beyond_memory_are_known_before(
        self, command: CommandLine, tiny_llama: Path, text: Path
    ) -> None:
        command.engine.resize_error = command.engine.plan_error = DoesNotFitError(
            "a context of 2,000 tokens needs 9 GB and 1 GB is free: 700 tokens would fit",
            needed=9,
            free=1,
            largest_n_ctx=700,
        )
        outcome = command("perplexity", tiny_llama, text, "--lengths", "100,2000", *METHODS)
        assert outcome.exit_code == 4
        assert "700 tokens would fit" in outcome.sentence
        assert command.engine.scored == []

    def test_what_is_no_number(self, command: CommandLine, model: Path, text: Path, tmp_path: Path) -> None:
        command.engine.log_probability = lambda tokens, at, plan: math.nan if at > 300 else -1.0
        file = tmp_path / "results.json"
        outcome = command("perplexity", model, text, "--lengths", "200,400", "--json", file)
        assert outcome.exit_code == 1
        assert "the model computes no number" in outcome.sentence
        assert [row["length"] for row in read(file)["results"]] == [200]


class TestShown:
    def test_eighty_columns(self, command: CommandLine, tiny_llama: Path, text: Path) -> None:
        methods = "none,dprope:threshold=0.0001:interpolated_dims=4,extra-mpe+logn"
        outcome = command(
            *("perplexity", tiny_llama, text, "--lengths", "100,400,1000,2000"),
            *("--methods", methods, "--target-length", "4096"),
        )
        assert outcome.exit_code == 0, outcome.stderr
        lines = outcome.stdout.splitlines()
        assert max(map(len, lines)) <= 80
        assert sum("extra-mpe+logn" in line for line in lines) == 5  # a row each, and the curve
        assert any("dprope threshold=0.0001" in line for line in lines)
        assert "95% intervals:" in outcome.stdout

    def test_few_tokens_have_no_interval(self, command: CommandLine, model: Path, text: Path) -> None:
        outcome = command("perplexity", model, text, "--lengths", str(64 * FEWEST_CLUSTERS))
        assert "too few tokens" in outcome.stdout

    def test_a_page_and_a_picture(
        self, command: CommandLine, tiny_llama: Path, text: Path, tmp_path: Path
    ) -> None:
        page, picture = tmp_path / "page.html", tmp_path / "curves.svg"
        outcome = command(
            *("perplexity", tiny_llama, text, "--lengths", "400,1000", *METHODS),
            *("--html", page, "--png", picture),
        )
        assert outcome.exit_code == 0, outcome.stderr
        html = page.read_text()
        assert "<svg" in html
        assert "<script" not in html
        assert html.count("dprope threshold=0.05") >= 3
        assert xml.etree.ElementTree.parse(picture).getroot().tag.endswith("svg")

    def test_json_on_stdout_is_all_there(self, command: CommandLine, model: Path, text: Path) -> None:
        outcome = command("perplexity", model, text, "--lengths", "400", "--json", "-")
        assert json.loads(outcome.stdout)["complete"] is True
        assert "LENGTH" in outcome.stderr

    def test_it_is_listed(self, command: CommandLine) -> None:
        assert "perplexity" in command().stdout
        assert "--stride" in command("perplexity", "--help").stdout


def _without_time(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "seconds"}


@pytest.mark.usefixtures("patched_library")
def test_a_real_model_from_beginning_to_end(tiny_llama: Path, tmp_path: Path) -> None:
    """A random model foresees nothing: about as many guesses as it has tokens, or more."""
    file = tmp_path / "results.json"
    outcome = run_process(
        *("perplexity", tiny_llama, "--lengths", "64,256", "--windows", "2", "--threads", "1"),
        *("--methods", "none,dynamic-ntk,streaming", "--target-length", "256", "--json", file),
    )
    assert outcome.exit_code == 0, outcome.stderr
    kept = read(file)
    assert [row["method"] for row in kept["results"]] == ["none"] * 4 + ["dynamic-ntk"] * 4 + [
        "streaming"
    ] * 4
    assert all(100 < line["perplexity"] < 100_000 for line in kept["summary"])
    within = {line["method"]: line["perplexity"] for line in kept["summary"] if line["length"] == 64}
    assert within["dynamic-ntk"] == pytest.approx(within["none"], rel=1e-6)
