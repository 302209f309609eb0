"""`ropewalk lines` and `ropewalk needle`: a fake engine that reads what it is asked, and a tiny model."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from cli_running import CommandLine
from fake_engine import FakeEngine
from ropewalk.evaluation.shipped_text import shipped_text
from test_needle import STORY

LINES = re.compile(r"line ([a-z-]+): REGISTER_CONTENT is <([0-9]+)>")
FACTS = re.compile(r"access codes? of ([a-z-]+) is ([0-9]+)\.")


def find_line(prompt: str) -> str:
    """What a perfect model answers to a question about a line."""
    (name,) = re.findall(r"What is the REGISTER_CONTENT of line ([a-z-]+)\?", prompt)
    return f"{dict(LINES.findall(prompt))[name]}>."


def find_needles(prompt: str) -> str:
    """What it answers to one about a needle: all that is said of the key asked for."""
    (asked,) = re.findall(r"access codes? of ([a-z-]+)(?: that the text gives)?\?", prompt)
    return " " + ", ".join(value for key, value in FACTS.findall(prompt) if key == asked) + "."


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capfd)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.touch()
    return path


@pytest.fixture
def story(tmp_path: Path) -> Path:
    path = tmp_path / "story.txt"
    path.write_text(STORY, encoding="utf-8")
    return path


def results_of(path: Path) -> dict[str, Any]:
    """A results file."""
    value = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(value, dict)
    return value


class TestLines:
    def test_results_hold_what_was_run(self, command: CommandLine, model: Path, tmp_path: Path) -> None:
        command.engine.respond = find_line
        file = tmp_path / "results.json"
        outcome = command(
            *("lines", model, "--lengths", "400,900", "--depths", "0,0.5,1", "--trials", "2", "--json", file)
        )
        assert outcome.exit_code == 0, outcome.stderr
        results = results_of(file)
        assert results["test"] == "lines"
        assert results["complete"] is True
        assert results["settings"]["chat"] is False
        assert len(results["results"]) == 12
        assert all(row["hit"] for row in results["results"])
        assert all(row["length"] - 40 < row["prompt_tokens"] <= row["length"] for row in results["results"])

    def test_a_trials_record_is_computed_once(self, command: CommandLine, model: Path) -> None:
        """Six prompts of two records: each record is read once, and each prompt pays for its question."""
        command.engine.respond = find_line
        outcome = command("lines", model, "--lengths", "500,1000", "--depths", "0,0.5,1", "--json", "-")
        computed = sum(row["computed_tokens"] for row in json.loads(outcome.stdout)["results"])
        assert computed < 1000 + 6 * 80

    def test_as_a_chat(self, command: CommandLine, model: Path) -> None:
        prompts: list[str] = []

        def respond(prompt: str) -> str:
            prompts.append(prompt)
            return f"The REGISTER_CONTENT of that line is <{find_line(prompt)}"

        command.engine.respond = respond
        outcome = command("lines", model, "--lengths", "600", "--depths", "0.5", "--chat", "--json", "-")
        assert outcome.exit_code == 0, outcome.stderr
        (row,) = json.loads(outcome.stdout)["results"]
        assert row["hit"] is True and row["prompt_tokens"] <= 600
        assert prompts[0].startswith("<|start|><|user|>\nBelow is a record") and prompts[0].endswith("|>\n")
        assert set(command.engine.days) == {date(2025, 1, 1)}, "prompts are the same on every day"
        command.engine = FakeEngine(template=False)
        refused = command("lines", model, "--lengths", "600", "--chat")
        assert refused.exit_code == 2
        assert "no chat template" in refused.sentence and "--chat" in refused.sentence

    def test_interrupted_it_goes_on(self, command: CommandLine, model: Path, tmp_path: Path) -> None:
        file, whole = tmp_path / "results.json", tmp_path / "whole.json"
        asked: list[str] = []

        def respond(prompt: str) -> str:
            asked.append(prompt)
            if len(asked) == 3:
                raise KeyboardInterrupt
            return find_line(prompt)

        command.engine.respond = respond
        arguments = ("lines", model, "--lengths", "400,700", "--depths", "0.1,0.9")
        outcome = command(*arguments, "--json", file)
        assert outcome.exit_code == 130
        assert "2 of 4" in outcome.sentence and "--resume" in outcome.sentence
        assert len(results_of(file)["results"]) == 2
        assert command(*arguments, "--resume", file).exit_code == 0
        command(*arguments, "--json", whole)
        assert results_of(file)["complete"] is True
        made, wanted = (
            {(r["length"], r["depth"]): r["answer"] for r in results_of(path)["results"]}
            for path in (file, whole)
        )
        assert made == wanted and len(made) == 4
        other = command(*arguments, "--seed", "1", "--resume", file)
        assert other.exit_code == 2
        assert "seed 0, not 1" in other.sentence

    def test_a_model_without_digits(
        self, command: CommandLine, model: Path, story: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plain = FakeEngine.detokenize
        monkeypatch.setattr(
            FakeEngine, "detokenize", lambda engine, tokens: plain(engine, tokens).replace("8", "")
        )
        needle = ("needle", model, "--haystack", story, "--depths", "0.5")
        for arguments in (("lines", model), needle):
            outcome = command(*arguments, "--lengths", "500")
            assert outcome.exit_code == 3
            assert "has no token for 8" in outcome.sentence and "--value-kind words" in outcome.sentence
        assert command(*needle, "--lengths", "500", "--value-kind", "words").exit_code == 0

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("--lengths", "20"), "cannot have 20 tokens"),
            (("--lengths", "x"), "'x' is not numbers of tokens"),
            (("--lengths", "400", "--depths", "2"), "'2' is not numbers from 0 to 1"),
            (("--lengths", "400", "--trials", "0"), "--trials"),
            ((), "--lengths"),
        ],
    )
    def test_what_is_refused(
        self, command: CommandLine, model: Path, arguments: tuple[str, ...], words: str
    ) -> None:
        outcome = command("lines", model, *arguments)
        assert outcome.exit_code == 2
        assert words in outcome.sentence


class TestNeedle:
    @pytest.mark.parametrize(
        "variant",
        [
            (),
            ("--needles", "4"),
            ("--values", "3"),
            ("--distractors", "4"),
            ("--needles", "3", "--values", "2"),
        ],
    )
    def test_a_perfect_model_hits(
        self, command: CommandLine, model: Path, story: Path, tmp_path: Path, variant: tuple[str, ...]
    ) -> None:
        command.engine.respond = find_needles
        file = tmp_path / "results.json"
        outcome = command(
            *("needle", model, "--haystack", story, "--lengths", "500,1200", "--depths", "0,0.5,1"),
            *("--trials", "2", "--json", file),
            *variant,
        )
        assert outcome.exit_code == 0, outcome.stderr
        results = results_of(file)
        assert len(results["results"]) == 12
        assert all(row["hit"] for row in results["results"]), results["results"][0]
        assert results["settings"]["haystack"] == "story.txt"
        for row in results["results"]:
            assert row["distance"] == pytest.approx(
                (1 - row["depth"]) * row["prompt_tokens"], abs=0.2 * row["prompt_tokens"] + 40
            )

    def test_a_model_that_takes_a_distractor_misses(
        self, command: CommandLine, model: Path, story: Path
    ) -> None:
        command.engine.respond = lambda prompt: " " + re.findall(r"number of [a-z-]+ is ([0-9]+)", prompt)[0]
        outcome = command(
            *("needle", model, "--haystack", story, "--lengths", "900", "--depths", "0.5"),
            *("--distractors", "3", "--json", "-"),
        )
        (row,) = json.loads(outcome.stdout)["results"]
        assert row["hit"] is False

    def test_a_fact_of_ones_own(self, command: CommandLine, model: Path, story: Path, tmp_path: Path) -> None:
        prompts: list[str] = []

        def respond(prompt: str) -> str:
            prompts.append(prompt)
            return " Eat a sandwich there."

        command.engine.respond = respond
        file, page = tmp_path / "results.json", tmp_path / "page.html"
        outcome = command(
            *("needle", model, "--haystack", story, "--lengths", "500", "--depths", "0.5"),
            *("--fact", "The best thing to do in the park is to eat a sandwich.", "--answer", "a sandwich"),
            *("--question", "What is the best thing to do in the park?", "--json", file, "--html", page),
        )
        assert outcome.exit_code == 0, outcome.stderr
        assert results_of(file)["results"][0]["hit"] is True
        assert prompts[0].endswith("What is the best thing to do in the park?\nAnswer:")
        assert "story.txt" in page.read_text(encoding="utf-8")

    def test_other_words_for_the_answer_are_told(
        self, command: CommandLine, model: Path, story: Path
    ) -> None:
        outcome = command(
            *("needle", model, "--haystack", story, "--lengths", "500", "--depths", "0.5"),
            *("--fact", "Anna is a year older than Ben, who is 741.", "--question", "How old is Anna?"),
            *("--answer", "742"),
        )
        assert outcome.exit_code == 0
        assert "does not say the answer" in outcome.sentence

    def test_an_answer_that_the_text_says_is_refused(
        self, command: CommandLine, model: Path, story: Path
    ) -> None:
        outcome = command(
            *("needle", model, "--haystack", story, "--lengths", "500", "--fact", "The hero is the Smith."),
            *("--question", "Who is the hero?", "--answer", "Smith"),
        )
        assert outcome.exit_code == 2
        assert re.search(r"story\.txt says the answer already \(Smith, line [0-9]+\)", outcome.sentence)
        assert command.engine.options is None, "nothing was loaded"

    def test_without_a_text_it_is_the_novel_and_the_results_say_so(
        self, command: CommandLine, model: Path, tmp_path: Path
    ) -> None:
        command.engine.respond = find_needles
        file, page = tmp_path / "r.json", tmp_path / "r.html"
        outcome = command(
            *("needle", model, "--lengths", "900", "--depths", "0.5", "--json", file, "--html", page)
        )
        assert outcome.exit_code == 0 and "Haystack: Persuasion." in outcome.stdout, outcome.stderr
        settings, text = results_of(file)["settings"], shipped_text()
        assert settings["haystack"] == "Persuasion" and "Persuasion" in page.read_text()
        assert settings["haystack_sha256"] == hashlib.sha256(text.encode()).hexdigest()
        refused = command("needle", model, "--lengths", "900", "--lines", "1-9")
        assert refused.exit_code == 2 and "name it with --haystack" in refused.sentence
        assert "--repeat" in command("needle", model, "--lengths", "1000000").sentence

    def test_arguments_that_are_no_text(self, command: CommandLine, model: Path, story: Path) -> None:
        own = {
            "--fact": "It is {value}.",
            "--question": "What?",
            "--answer": "{value}",
            "--distractor": "No.",
        }
        for broken in own:
            given = [part for option in own for part in (option, own[option])]
            given[given.index(broken) + 1] += "\udcff"
            outcome = command("needle", model, "--haystack", story, "--lengths", "500", *given)
            assert outcome.exit_code == 2 and f"{broken} has bytes" in outcome.sentence

    def test_a_text_that_is_too_short(self, command: CommandLine, model: Path, tmp_path: Path) -> None:
        command.engine.respond = find_needles
        text = tmp_path / "short.txt"
        text.write_text("It rains in spring. It blows in autumn.\n")
        arguments = (
            "needle",
            model,
            "--haystack",
            text,
            "--lengths",
            "800",
            "--depths",
            "0.5",
            "--json",
            "-",
        )
        refused = command(*arguments)
        assert refused.exit_code == 2
        assert re.search(r"short\.txt has 10 tokens, [0-9]+ too few for a prompt of 800", refused.sentence)
        assert "--repeat" in refused.sentence
        done = command(*arguments, "--repeat")
        assert done.exit_code == 0, done.stderr
        results = json.loads(done.stdout)
        assert results["settings"]["repeat"] is True
        assert 780 < results["results"][0]["prompt_tokens"] <= 800

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("--fact", "A is b."), "give --question"),
            (("--fact", "A is b.", "--question", "What?"), "give --answer"),
            (("--fact", "A is b.", "--question", "What?", "--answer", "b", "--trials", "2"), "--trials"),
            (("--fact", "A is b.", "--question", "What?", "--answer", "b", "--needles", "2"), "--needles 2"),
            (("--value-kind", "colours"), "colours"),
        ],
    )
    def test_what_is_refused(
        self, command: CommandLine, model: Path, story: Path, arguments: tuple[str, ...], words: str
    ) -> None:
        outcome = command("needle", model, "--haystack", story, "--lengths", "500", *arguments)
        assert outcome.exit_code == 2
        assert words in outcome.sentence

    def test_a_document_of_another_format_and_a_part_of_it(
        self, command: CommandLine, model: Path, tmp_path: Path
    ) -> None:
        prompts: list[str] = []

        def respond(prompt: str) -> str:
            prompts.append(prompt)
            return find_needles(prompt)

        command.engine.respond = respond
        page = tmp_path / "page.html"
        page.write_text(
            "<p>It rains.</p>\n<p>It snows.</p>\n" + "<p>Nothing <b>else</b> happens.</p>\n" * 200
        )
        arguments = (
            "needle",
            model,
            "--haystack",
            page,
            "--lengths",
            "400",
            "--depths",
            "0.5",
            "--json",
            "-",
        )
        assert command(*arguments).exit_code == 0
        assert "It rains." in prompts[0] and "Nothing else happens." in prompts[0] and "<p>" not in prompts[0]
        assert command(*arguments, "--lines", "5-").exit_code == 0
        assert "It rains." not in prompts[1]

    def test_interrupted_it_goes_on_only_with_the_same_text_and_fact(
        self, command: CommandLine, model: Path, story: Path, tmp_path: Path
    ) -> None:
        asked: list[str] = []

        def respond(prompt: str) -> str:
            asked.append(prompt)
            if len(asked) == 2:
                raise KeyboardInterrupt
            return find_needles(prompt)

        command.engine.respond = respond
        file = tmp_path / "results.json"
        arguments = ("needle", model, "--haystack", story, "--lengths", "600", "--depths", "0.1,0.5,0.9")
        assert command(*arguments, "--json", file).exit_code == 130
        assert len(results_of(file)["results"]) == 1
        refused = command(*arguments, "--needles", "2", "--resume", file)
        assert refused.exit_code == 2 and "needles 1, not 2" in refused.sentence
        assert command(*arguments, "--resume", file).exit_code == 0
        assert len(results_of(file)["results"]) == 3
        story.write_text(story.read_text() + " More.")
        refused = command(*arguments, "--resume", file)
        assert refused.exit_code == 2 and "haystack sha256" in refused.sentence

    def test_a_haystack_that_cannot_be_read(self, command: CommandLine, model: Path, tmp_path: Path) -> None:
        outcome = command("needle", model, "--haystack", tmp_path / "missing.txt", "--lengths", "500")
        assert outcome.exit_code == 3
        assert "missing.txt" in outcome.sentence
        (tmp_path / "empty.txt").touch()
        assert (
            command("needle", model, "--haystack", tmp_path / "empty.txt", "--lengths", "500").exit_code == 3
        )


@pytest.mark.parametrize("chat", [(), ("--chat",)])
def test_with_a_tiny_model(
    tiny_llama: Path, story: Path, capfd: pytest.CaptureFixture[str], chat: tuple[str, ...]
) -> None:
    """Its answers mean nothing; its tokenizer, template, plans and sequences are real."""
    from ropewalk.cli.run import run

    common = ("--depths", "0.2,0.8", "--threads", "1", "--json", "-", *chat)
    methods = ("--methods", "none,streaming", "--target-length", "2048")
    assert run(["lines", str(tiny_llama), "--lengths", "600,900", *methods, *common]) == 0
    lines = json.loads(capfd.readouterr().out)
    assert run(["needle", str(tiny_llama), "--haystack", str(story), "--lengths", "600", *common]) == 0
    needle = json.loads(capfd.readouterr().out)
    assert len(lines["results"]) == 8 and len(needle["results"]) == 2
    for row in lines["results"] + needle["results"]:
        assert row["length"] - 110 < row["prompt_tokens"] <= row["length"]
        assert 0 < row["distance"] <= row["prompt_tokens"]
