"""`ropewalk ask`: several questions, what goes wrong in the middle, terminals, advice that holds."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli_running import CommandLine, environment
from fake_engine import FakeEngine, noting
from ropewalk.cli.run import run
from ropewalk.engine import EngineDied
from ropewalk.sessions.snapshot_budget import VARIABLE as BUDGET

STORY = "Once upon a time there was a ropewalk by the river. " * 20


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capfd)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.touch()
    return path


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "story.txt"
    path.write_text(STORY)
    return path


def failing_at(number: int, error: BaseException) -> FakeEngine:
    """An engine whose so-manieth answer fails."""
    prompts: list[str] = []

    def respond(prompt: str) -> str:
        prompts.append(prompt)
        if len(prompts) == number:
            raise error
        return f"Answer {len(prompts)}."

    return FakeEngine(respond=respond)


TWO = ("-q", "First?", "-q", "Second?")


class TestSeveralQuestions:
    def test_each_stands_above_its_answer(self, command: CommandLine, model: Path, text: Path) -> None:
        command.engine.respond = noting([], "Answer.")
        outcome = command("ask", model, text, *TWO)
        assert outcome.stdout == "> First?\n\nAnswer.\n\n> Second?\n\nAnswer.\n"
        assert (outcome.exit_code, outcome.stderr) == (0, "")

    def test_the_document_is_read_once_and_the_questions_do_not_see_each_other(
        self, command: CommandLine, model: Path, text: Path
    ) -> None:
        prompts: list[str] = []
        command.engine.respond = noting(prompts, "Answer.")
        command("ask", model, text, *TWO)
        assert "First?" not in prompts[1]
        first, second = command.engine.prefills
        assert second.cached_tokens > 0.9 * first.prompt_tokens

    def test_the_context_is_made_for_the_longest_and_its_answer(
        self, command: CommandLine, model: Path, text: Path
    ) -> None:
        command("ask", model, text, "-q", "Why?", "-q", "because " * 700, "--max-tokens", "100")
        longest = max(read.prompt_tokens for read in command.engine.prefills)
        assert len(command.engine.contexts) == 1, "the vocabulary alone needs none"
        assert longest + 100 <= command.engine.contexts[0] < longest + 100 + 256
        assert set(command.engine.reserves) == {longest + 100}

    def test_json_is_an_object_for_one_and_a_list_for_several(
        self, command: CommandLine, model: Path, text: Path
    ) -> None:
        command.engine.respond = noting([], "Answer {}.")
        assert json.loads(command("ask", model, text, "-q", "x", "--json").stdout)["question"] == "x"
        answers = json.loads(command("ask", model, text, *TWO, "--json").stdout)
        assert [answer["question"] for answer in answers] == ["First?", "Second?"]

    @pytest.mark.parametrize(
        ("error", "exit_code"), [(KeyboardInterrupt(), 130), (EngineDied("was killed by SIGKILL"), 1)]
    )
    def test_what_is_done_stays_where_the_rest_fails(
        self, command: CommandLine, model: Path, text: Path, error: BaseException, exit_code: int
    ) -> None:
        words = str(error) or "Interrupted."
        command.engine = failing_at(2, error)
        outcome = command("ask", model, text, *TWO, "--json")
        assert outcome.exit_code == exit_code
        assert words in outcome.sentence
        assert [answer["answer"] for answer in json.loads(outcome.stdout)] == ["Answer 1."]
        command.engine = failing_at(2, error)
        outcome = command("ask", model, text, *TWO)
        assert outcome.exit_code == exit_code
        assert words in outcome.sentence
        assert outcome.stdout == "> First?\n\nAnswer 1.\n\n> Second?\n\n"
        assert command.engine.closed

    def test_nothing_is_on_stdout_where_the_only_one_fails(
        self, command: CommandLine, model: Path, text: Path
    ) -> None:
        for arguments in ((), ("--json",)):
            command.engine = failing_at(1, EngineDied("was killed by SIGKILL"))
            outcome = command("ask", model, text, "-q", "x", *arguments)
            assert (outcome.exit_code, outcome.stdout) == (1, "")

    def test_an_answer_that_is_cut_off_ends_its_line(
        self, command: CommandLine, model: Path, text: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        command.engine.respond = lambda _: "one two three four"
        pieces: list[str] = []

        def press(shown: str) -> str:
            pieces.append(shown)
            if len(pieces) == 3:
                raise KeyboardInterrupt
            return shown

        monkeypatch.setattr("ropewalk.cli.ask.sys.stdout", _Terminal(sys.stdout, press))
        outcome = command("ask", model, text, "-q", "x")
        assert (outcome.exit_code, outcome.stdout) == (130, "one two\n")


class _Terminal:
    """Standard output with a hand on it."""

    def __init__(self, stream: object, seen: object) -> None:
        self._stream, self._seen = stream, seen

    def write(self, text: str) -> int:
        shown: str = text if text == "\n" else self._seen(text)  # type: ignore[operator]
        return self._stream.write(shown)  # type: ignore[attr-defined, no-any-return]

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


class TestWhatIsAsked:
    def test_raw_goes_on_from_the_questions_words(
        self, command: CommandLine, model: Path, text: Path
    ) -> None:
        prompts: list[str] = []
        command.engine.respond = noting(prompts, " end")
        assert command("ask", model, text, "--raw", "-q", "And so it").stdout == " end\n"
        assert prompts == [f"<|start|>{STORY}\n\nAnd so it"]

    def test_what_the_model_is_told_to_be_comes_first(
        self, command: CommandLine, model: Path, text: Path
    ) -> None:
        prompts: list[str] = []
        command.engine.respond = noting(prompts, "ok")
        command("ask", model, text, "-q", "x", "--system", "Be brief.")
        assert prompts[0].startswith("<|start|><|system|>\nBe brief.<|end|>\n<|user|>\nOnce upon")

    def test_files_and_folders_are_joined(self, command: CommandLine, model: Path, tmp_path: Path) -> None:
        prompts: list[str] = []
        command.engine.respond = noting(prompts, "ok")
        tree = tmp_path / "tree"
        tree.mkdir()
        for path in (tree / "a.py", tree / "b.py", tmp_path / "c.txt"):
            path.write_text(f"# text of {path.stem}")
        assert command("ask", model, tree, tmp_path / "c.txt", "-q", "x").exit_code == 0
        places = [prompts[0].index(f"# text of {stem}") for stem in "abc"]
        assert places == sorted(places)

    def test_lines_alone_are_read_and_said(self, command: CommandLine, model: Path, tmp_path: Path) -> None:
        prompts: list[str] = []
        command.engine.respond = noting(prompts, "ok")
        (tmp_path / "lines.txt").write_text("".join(f"line {number}\n" for number in range(1, 10)))
        outcome = command("ask", model, tmp_path / "lines.txt", "-q", "x", "--lines", "3,5-6")
        assert [int(n) for n in re.findall(r"line (\d)", prompts[0])] == [3, 5, 6]
        assert "only lines 3, 5-6 are read" in outcome.sentence

    @pytest.mark.parametrize(
        ("arguments", "outcome"),
        [
            (("--lines", "6-3"), (2, "3-6")),
            (("--lines", "x"), (2, "names no lines")),
            (("--pages", "1", "--lines", "1"), (2, "choose one")),
            (("--pages", "1"), (3, "no pages")),
            (("--lines", "900-"), (3, "line")),
            (("-q", "  "), (2, "empty")),
            (("--temperature", "-1"), (2, "--temperature")),
            (("--draft", "-1"), (2, "--draft")),
        ],
    )
    def test_what_cannot_be_is_a_sentence_before_anything_is_loaded(
        self,
        command: CommandLine,
        model: Path,
        text: Path,
        arguments: tuple[str, ...],
        outcome: tuple[int, str],
    ) -> None:
        failed = command("ask", model, text, "-q", "x", *arguments)
        assert failed.exit_code == outcome[0]
        assert outcome[1] in failed.sentence
        assert command.engine.options is None

    def test_no_drafts_where_none_are_wanted(self, command: CommandLine, model: Path, text: Path) -> None:
        command("ask", model, text, "-q", "x", "--draft", "0")
        command("ask", model, text, "-q", "x")
        assert command.engine.drafted == [0, None]

    def test_bytes_that_are_no_text_in_a_question(
        self, command: CommandLine, model: Path, text: Path
    ) -> None:
        """As a command line in another encoding gives them."""
        prompts: list[str] = []
        command.engine.respond = noting(prompts, "ok")
        outcome = command("ask", model, text, "-q", "caf\udce9?", "--system", "\udcff")
        assert outcome.exit_code == 0, outcome
        assert "caf\ufffd?" in prompts[0]


class TestTooLong:
    """The fake model's target length is 4,000 tokens."""

    def follow(self, command: CommandLine, sentence: str, *arguments: str | Path) -> None:
        """What the sentence advises is done, and answered."""
        unit, wanted = re.findall(r"--(pages|lines) (\S+) for one", sentence)[0]
        outcome = command(*arguments, f"--{unit}", wanted)
        assert outcome.exit_code == 0, outcome
        assert command.engine.prefills[-1].prompt_tokens > 1500, "not much less than what fits"

    @pytest.mark.parametrize("kind", ["even", "dense at first", "dense at last"])
    def test_the_range_that_is_named_fits(
        self, command: CommandLine, model: Path, tmp_path: Path, kind: str
    ) -> None:
        even, dense = "word " * 10 + "\n", "1234567890" * 5 + "\n"
        lines = {
            "even": [even] * 900,
            "dense at first": [dense] * 50 + [even] * 900,
            "dense at last": [even] * 300 + [dense] * 900,
        }
        book = tmp_path / "book.txt"
        book.write_text("".join(lines[kind]))
        outcome = command("ask", model, book, "-q", "Well?")
        assert outcome.exit_code == 4
        for words in ("4,000", "--target-length", "--beyond"):
            assert words in outcome.sentence
        assert command.engine.prefills == []
        self.follow(command, outcome.sentence, "ask", model, book, "-q", "Well?")

    def test_within_a_selection(self, command: CommandLine, model: Path, tmp_path: Path) -> None:
        book = tmp_path / "book.txt"
        book.write_text(("word " * 10 + "\n") * 2000)
        outcome = command("ask", model, book, "-q", "Well?", "--lines", "900-950,1100-")
        assert outcome.exit_code == 4
        last = outcome.stderr.splitlines()[-1]
        assert "--lines 900-950,1100-" in last
        self.follow(command, last, "ask", model, book, "-q", "Well?")

    def test_no_range_is_named_where_there_is_none(
        self, command: CommandLine, model: Path, tmp_path: Path
    ) -> None:
        for path in (tmp_path / "one.txt", tmp_path / "two.txt"):
            path.write_text("word " * 3000)
        for files in ((tmp_path / "one.txt", tmp_path / "two.txt"), (tmp_path / "long.txt",)):
            (tmp_path / "long.txt").write_text("word " * 6000)
            outcome = command("ask", model, *files, "-q", "Well?")
            assert outcome.exit_code == 4
            assert "for one" not in outcome.sentence
            assert "--beyond" in outcome.sentence

    def test_a_question_that_is_too_long_says_how_much_is_left(
        self, command: CommandLine, model: Path, tmp_path: Path
    ) -> None:
        book = tmp_path / "book.txt"
        book.write_text("word " * 3000)
        outcome = command("ask", model, book, "-q", "Well?", "-q", "why " * 2000)
        assert outcome.exit_code == 4
        left = int(re.findall(r"([0-9,]+) are left", outcome.sentence)[0].replace(",", ""))
        assert 980 < left < 1000
        assert "The question has 2,0" in outcome.sentence
        assert command.engine.prefills == [], "nothing is computed for the first one either"
        assert command("ask", model, book, "-q", "why " * (left - 20)).exit_code == 0
        assert command("ask", model, book, "-q", "why " * (left + 20)).exit_code == 4

    def test_a_longer_target_that_is_named_is_long_enough(
        self, command: CommandLine, model: Path, tmp_path: Path
    ) -> None:
        book = tmp_path / "book.txt"
        book.write_text("word " * 9000)
        command.engine = FakeEngine(plan=None, train_length=2000)
        outcome = command("ask", model, book, "-q", "Well?")
        length = int(re.findall(r"--target-length (\d+)", outcome.sentence)[0])
        assert 9500 < length <= 16000
        command.engine = FakeEngine(plan=None, train_length=length)
        assert command("ask", model, book, "-q", "Well?").exit_code == 0


class TestWhatIsPrinted:
    EVIL = "one \x1b]0;title\x07two \x9b31m\ttab\rover\x08\n“Once upon a time there was a ropewalk”"

    def test_a_file_gets_the_answer_as_it_is(self, command: CommandLine, model: Path, text: Path) -> None:
        command.engine.respond = lambda _: self.EVIL
        assert command("ask", model, text, "-q", "x").stdout == f"{self.EVIL}\n"
        assert json.loads(command("ask", model, text, "-q", "x", "--json").stdout)["answer"] == self.EVIL

    def test_quotations_are_looked_up(self, command: CommandLine, model: Path, text: Path) -> None:
        command.engine.respond = lambda _: (
            'It says "there was a ropewalk by the river" and "there were two ropewalks by a lake in it".'
        )
        answer = json.loads(command("ask", model, text, "-q", "x", "--json").stdout)
        found, missing = answer["quotations"]
        assert (found["found"], found["exact"], found["file"], found["line"]) == (True, True, str(text), 1)
        assert (missing["found"], missing["file"], missing["line"]) == (False, None, None)

    def test_notices_are_no_escape_sequences(self, command: CommandLine, model: Path, tmp_path: Path) -> None:
        path = tmp_path / "a\x1b[31mb.txt"
        path.write_bytes(b"caf\xe9 au lait")
        command.engine.respond = lambda _: "ok"
        outcome = command("ask", model, path, "-q", "x")
        assert "Windows-1252" in outcome.sentence
        assert "\x1b" not in outcome.stderr


PROGRAM = """
import sys
sys.path[:0] = {roots!r}
from fake_engine import FakeEngine
from ropewalk.cli import running
from ropewalk.cli.main import main

class Starts:
    @staticmethod
    def start():
        return FakeEngine(respond=lambda _: {answer!r})

running.Engine = Starts
sys.argv[1:] = {arguments!r}
sys.exit(main())
"""


def program(answer: str, *arguments: str | Path) -> list[str]:
    """A process of its own that asks a fake engine."""
    roots = [str(Path(__file__).parent)]
    words = PROGRAM.format(roots=roots, answer=answer, arguments=["ask", *map(str, arguments)])
    return [sys.executable, "-c", words]


def on_a_terminal(command: list[str]) -> tuple[int, str]:
    """Exit code and all that a terminal is given."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        command,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**environment(), BUDGET: "0", "COLUMNS": "160", "TERM": "xterm"},
    )
    os.close(slave)
    given = b""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if select.select([master], [], [], 0.1)[0]:
            try:
                given += os.read(master, 65536)
            except OSError:  # Linux's way to say that the other end is closed
                break
        elif process.poll() is not None:
            break
    os.close(master)
    return process.wait(30), given.decode(errors="replace")


class TestOnATerminal:
    def test_the_answer_has_nothing_to_obey_and_what_it_quotes_stands_below(
        self, model: Path, text: Path
    ) -> None:
        code, given = on_a_terminal(program(TestWhatIsPrinted.EVIL, model, text, "-q", "x"))
        assert code == 0, given
        assert "one ]0;titletwo 31m\ttabover\r\n“Once upon a time there was a ropewalk”\r\n" in given
        assert "\x07" not in given and "\x9b" not in given and "\x1b]0" not in given
        below = given.partition("ropewalk”\r\n")[2]
        assert f"“Once upon a time there was a ropewalk”  {text}, line 1" in below
        assert re.search(r"read [\d,]+ tokens in .*, answered [\d,]+ at ", below)
        assert re.search(
            r"story\.txt: 2\d\d tokens \(the model is trained on 2,000, extended to 4,000\)", given
        )

    def test_a_files_name_has_nothing_to_obey_either(self, model: Path, tmp_path: Path) -> None:
        path = tmp_path / "a\x1b]0;b\x07.txt"
        path.write_text(STORY)
        answer = "“Once upon a time there was a ropewalk”"
        code, given = on_a_terminal(program(answer, model, path, "-q", "x"))
        assert code == 0, given
        assert "\x07" not in given and "\x1b]0" not in given


def test_a_reader_that_has_had_enough_ends_it_quietly(model: Path, text: Path) -> None:
    """As `| head -1` does."""
    process = subprocess.Popen(
        program("line\n" * 3000, model, text, "-q", "x", "--max-tokens", "3900"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        env={**environment(), BUDGET: "0"},
    )
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == b"line\n"
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) in (0, 1)


class TestARealEngine:
    """What is kept on disk, on a tiny model."""

    def ask(self, capfd: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, object]:
        assert run(["ask", *map(str, arguments), "--json", "--max-tokens", "8", "--threads", "1"]) == 0
        answer: dict[str, object] = json.loads(capfd.readouterr().out)
        return answer

    @pytest.mark.usefixtures("patched_library")
    def test_a_text_is_read_once_and_answered_about_alike(
        self,
        tiny_llama: Path,
        tmp_path: Path,
        capfd: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("ropewalk.sessions.fingerprint.user_cache_path", lambda _: tmp_path / "cache")
        monkeypatch.setattr("ropewalk.sessions.snapshot_shelf.user_cache_path", lambda _: tmp_path / "cache")
        monkeypatch.setenv(BUDGET, "1GB")
        book = tmp_path / "book.txt"
        book.write_text("the thing in the rope walk, and then another thing. " * 40)
        arguments = (tiny_llama, book, "-q", "What is it?", "--beyond", "--gpu-layers", "0")
        fresh = self.ask(capfd, *arguments, "--no-snapshots")
        assert not (tmp_path / "cache" / "snapshots").exists()
        first, second = (self.ask(capfd, *arguments) for _ in range(2))
        assert fresh["answer"] == first["answer"] == second["answer"]
        assert (fresh["restored_tokens"], first["restored_tokens"]) == (0, 0)
        assert isinstance(second["restored_tokens"], int) and second["restored_tokens"] > 1000
        assert self.ask(capfd, *arguments, "--no-snapshots")["restored_tokens"] == 0
