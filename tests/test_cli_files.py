"""Verbs on real files and the real engine: tiny random models, every verb as a person would type it."""

from __future__ import annotations

import errno
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gguf import GGUFReader, GGUFWriter

from cli_running import Outcome, environment, run_process
from ropewalk.cli.run import run

Ropewalk = Callable[..., Outcome]


@pytest.fixture
def ropewalk(capfd: pytest.CaptureFixture[str]) -> Ropewalk:
    """`ropewalk ARGUMENTS` in this process, with the real engine."""

    def command(*arguments: str | Path) -> Outcome:
        exit_code = run([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Outcome(exit_code, captured.out, captured.err)

    return command


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "story.txt"
    path.write_text("in the end there was the thing and then another thing. " * 4)
    return path


@pytest.fixture
def without_rope(tmp_path: Path) -> Path:
    """A GGUF file of an architecture that has no rotary embedding."""
    path = tmp_path / "gpt2.gguf"
    writer = GGUFWriter(path, "gpt2")
    writer.add_context_length(64)
    writer.add_block_count(1)
    writer.add_embedding_length(32)
    writer.add_head_count(2)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


class TestBake:
    METHOD = ("--method", "extra-mpe", "--target-length", "256")

    def test_bakes_and_says_what(self, ropewalk: Ropewalk, tiny_llama: Path, tmp_path: Path) -> None:
        target = tmp_path / "out put.gguf"
        outcome = ropewalk("bake", tiny_llama, "-o", target, *self.METHOD)
        assert (outcome.exit_code, outcome.stderr) == (0, "")
        for words in ("extra-mpe", "mirrored", "256 tokens (4 times)", "fine-tuned", "native", "no: "):
            assert words in outcome.stdout
        assert f"ropewalk chat '{target}'" in outcome.stdout, "quoted for a shell"
        keys = GGUFReader(target).fields
        assert keys["ropewalk.method"].contents() == "extra-mpe"
        assert keys["ropewalk.position.period"].contents() == 128

    def test_json_is_one_object(self, ropewalk: Ropewalk, tiny_llama: Path, tmp_path: Path) -> None:
        target = tmp_path / "out.gguf"
        outcome = ropewalk(
            *("bake", tiny_llama, target, "--method", "yarn+logn", "--target-length", "128", "--json"),
            *("--train-length", "32"),
        )
        baked = json.loads(outcome.stdout)
        assert baked["target"] == str(target)
        plan = baked["plan"]
        assert (plan["train_length"], plan["target_length"], plan["logn_length"]) == (32, 128, 32)
        assert json.loads(ropewalk("inspect", target, "--json").stdout)["plan"] == plan

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("--method", "pi", "--target-length", "32"), "target_length is 32"),
            (("--method", "alchemy", "--target-length", "256"), "alchemy"),
            (("--method", "pi+ntk", "--target-length", "256"), "contradict"),
            (("--method", "pi", "--target-length", "256", "--method-option", "x=1"), "x=1"),
        ],
    )
    def test_plans_that_cannot_be_made(
        self, ropewalk: Ropewalk, tiny_llama: Path, tmp_path: Path, arguments: tuple[str, ...], words: str
    ) -> None:
        outcome = ropewalk("bake", tiny_llama, tmp_path / "out.gguf", *arguments)
        assert outcome.exit_code == 2
        assert words in outcome.sentence
        assert list(tmp_path.iterdir()) == []

    def test_bad_sources_leave_nothing(
        self, ropewalk: Ropewalk, tiny_llama: Path, tmp_path: Path, without_rope: Path
    ) -> None:
        whole = tiny_llama.read_bytes()
        (tmp_path / "short.gguf").write_bytes(whole[: len(whole) // 2])
        (tmp_path / "header.gguf").write_bytes(whole[:100])
        (tmp_path / "text.gguf").write_text("This is no model. " * 100)
        (tmp_path / "empty.gguf").touch()
        before = sorted(tmp_path.iterdir())
        for name in ("short.gguf", "header.gguf", "text.gguf", "empty.gguf", "missing.gguf", "gpt2.gguf"):
            for verb in (
                ("bake", tmp_path / name, tmp_path / "out.gguf", *self.METHOD),
                ("inspect", tmp_path / name),
            ):
                if verb[0] == "inspect" and name == "short.gguf":
                    continue
                outcome = ropewalk(*verb)
                assert outcome.exit_code == 3, outcome
                assert name in outcome.sentence
        assert sorted(tmp_path.iterdir()) == before
        assert without_rope in before

    def test_an_existing_target_stays_without_force(
        self, ropewalk: Ropewalk, tiny_llama: Path, tmp_path: Path
    ) -> None:
        target = tmp_path / "out.gguf"
        target.write_text("precious")
        outcome = ropewalk("bake", tiny_llama, target, *self.METHOD)
        assert outcome.exit_code == 2
        assert "out.gguf" in outcome.sentence and "--force" in outcome.sentence
        assert target.read_text() == "precious"
        assert ropewalk("bake", tiny_llama, target, *self.METHOD, "--force").exit_code == 0
        assert GGUFReader(target).fields["ropewalk.schema"].contents() == 1

    def test_standard_output_is_no_target(
        self, ropewalk: Ropewalk, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for target in (("-",), ("-o", "-")):
            outcome = ropewalk("bake", tiny_llama, *target, *self.METHOD)
            assert outcome.exit_code == 2
            assert "cannot go to stdout; name a file" in outcome.sentence
        assert list(tmp_path.iterdir()) == []

    def test_a_checkpoint_is_for_another_verb(self, ropewalk: Ropewalk, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text("{}")
        outcome = ropewalk("bake", tmp_path, tmp_path / "out.gguf", *self.METHOD)
        assert outcome.exit_code == 3
        assert "is a checkpoint's folder; `ropewalk convert` makes" in outcome.sentence

    def test_pipes(self, ropewalk: Ropewalk, tiny_llama: Path, tmp_path: Path) -> None:
        """Neither waited on nor replaced."""
        pipe = tmp_path / "pipe.gguf"
        os.mkfifo(pipe)
        for exit_code, arguments in (
            (2, ("bake", tiny_llama, pipe, *self.METHOD, "--force")),
            (3, ("bake", pipe, tmp_path / "out.gguf", *self.METHOD)),
            (3, ("inspect", pipe)),
        ):
            outcome = ropewalk(*arguments)
            assert outcome.exit_code == exit_code
            assert "pipe.gguf is no regular file" in outcome.sentence
        assert pipe.is_fifo()

    def test_the_source_is_no_target(self, ropewalk: Ropewalk, tiny_llama: Path) -> None:
        before = tiny_llama.read_bytes()
        outcome = ropewalk("bake", tiny_llama, tiny_llama, *self.METHOD, "--force")
        assert outcome.exit_code == 2
        assert "source" in outcome.sentence
        assert tiny_llama.read_bytes() == before


class TestInspect:
    def test_a_plain_file(self, ropewalk: Ropewalk, tiny_llama: Path) -> None:
        outcome = ropewalk("inspect", tiny_llama)
        assert outcome.exit_code == 0
        for words in ("llama, 2 layers", "8 pairs, base 10000", "64 tokens", "none"):
            assert words in outcome.stdout
        assert json.loads(ropewalk("inspect", tiny_llama, "--json").stdout)["plan"] is None

    def test_native_and_not(self, ropewalk: Ropewalk, tiny_llama: Path, tmp_path: Path) -> None:
        for method, native, where in (("pi", True, "Ollama"), ("extra-pe", False, "patched library")):
            target = tmp_path / f"{method}.gguf"
            ropewalk("bake", tiny_llama, target, "--method", method, "--target-length", "128")
            assert json.loads(ropewalk("inspect", target, "--json").stdout)["plan"]["native"] is native
            assert where in ropewalk("inspect", target).stdout

    def test_an_unknown_schema(self, ropewalk: Ropewalk, tiny_llama: Path, tmp_path: Path) -> None:
        target = tmp_path / "future.gguf"
        ropewalk("bake", tiny_llama, target, "--method", "pi", "--target-length", "128")
        reader = GGUFReader(target, "r+")
        reader.fields["ropewalk.schema"].parts[-1][0] = 7
        del reader
        outcome = ropewalk("inspect", target)
        assert outcome.exit_code == 3
        assert "schema 7" in outcome.sentence and "future.gguf" in outcome.sentence


@pytest.mark.usefixtures("patched_library")
class TestRunning:
    @pytest.fixture
    def mirrored(self, tiny_llama: Path, tmp_path: Path) -> Path:
        target = tmp_path / "mirrored.gguf"
        arguments = ("bake", tiny_llama, target, "--method", "extra-mpe+logn", "--target-length", "1024")
        assert run_process(*arguments).exit_code == 0
        return target

    def test_passkey(self, ropewalk: Ropewalk, mirrored: Path, tmp_path: Path) -> None:
        file = tmp_path / "results.json"
        outcome = ropewalk(
            "passkey", mirrored, "--lengths", "900,1500", "--depths", "0.5", "--threads", "1", "--json", file
        )
        assert outcome.exit_code == 0
        results = json.loads(file.read_text())
        assert results["plans"][0]["plan"]["position_map"]["kind"] == "mirrored"
        for row in results["results"]:
            assert row["length"] - 100 < row["prompt_tokens"] <= row["length"]
            assert row["hit"] is False, "its weights are random"
        assert len(results["results"]) == 2

    def test_ask(self, ropewalk: Ropewalk, mirrored: Path, text: Path) -> None:
        arguments = ("ask", mirrored, text, "-q", "the thing?", "--max-tokens", "8", "--threads", "1")
        answer = json.loads(ropewalk(*arguments, "--json").stdout)
        assert answer["prompt_tokens"] > 100
        assert answer["cached_tokens"] == 0
        assert 0 < answer["decode_tokens"] <= 8
        assert answer["prefill_seconds"] > 0 < answer["decode_seconds"]
        assert ropewalk(*arguments).stdout == answer["answer"] + "\n", "greedy answers are the same"

    def test_ask_beyond(self, ropewalk: Ropewalk, tiny_qwen2: Path, text: Path) -> None:
        outcome = ropewalk("ask", tiny_qwen2, text, "-q", "the thing?", "--threads", "1")
        assert outcome.exit_code == 4
        assert "--beyond" in outcome.sentence and "64" in outcome.sentence

    def test_doctor(self, ropewalk: Ropewalk, mirrored: Path, tiny_llama: Path, tmp_path: Path) -> None:
        outcome = ropewalk("doctor", mirrored, "--threads", "1")
        assert outcome.exit_code == 0
        assert "identical on 64 tokens" in outcome.stdout
        assert "nothing to compare" in ropewalk("doctor", tiny_llama).stdout
        changing = tmp_path / "changing.gguf"
        ropewalk("bake", tiny_llama, changing, "--method", "pi+logn", "--target-length", "256")
        report = json.loads(ropewalk("doctor", changing, "--json", "--threads", "1").stdout)
        assert report["file"]["identity"]["bit_identical"] is False
        assert report["file"]["identity"]["max_difference"] > 0.01
        assert "by design" in report["file"]["verdict"]

    @pytest.mark.parametrize("name", ["text.gguf", "short.gguf"])
    def test_files_that_do_not_load(
        self, ropewalk: Ropewalk, tiny_llama: Path, text: Path, tmp_path: Path, name: str
    ) -> None:
        whole = tiny_llama.read_bytes()
        (tmp_path / "text.gguf").write_text("This is no model. " * 100)
        (tmp_path / "short.gguf").write_bytes(whole[: len(whole) // 2])
        outcome = ropewalk("ask", tmp_path / name, text, "-q", "what?")
        assert outcome.exit_code == 3
        assert name in outcome.sentence

    @pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_interrupted(self, mirrored: Path, tmp_path: Path, signal_number: int) -> None:
        """Ctrl-C goes to all processes of the terminal; what is done is kept, and nothing else is left."""
        results = tmp_path / "results"
        results.mkdir()
        file = results / "results.json"
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "ropewalk", "passkey", str(mirrored), "--lengths", "1000"),
                *("--trials", "60", "--threads", "1", "--json", str(file)),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            start_new_session=True,
        )
        until(file.exists)
        os.killpg(process.pid, signal_number)
        stdout, stderr = process.communicate(timeout=30)
        outcome = Outcome(process.returncode, stdout, stderr)
        assert outcome.exit_code == 128 + signal_number
        words = r"Interrupted with \d+ of 180 results, kept in (.*\.json); --resume (.*) goes on\.$"
        told = re.match(words, outcome.sentence)
        assert told is not None and told.groups() == (str(file), str(file))
        kept = json.loads(file.read_text())
        assert kept["complete"] is False
        assert len(kept["results"]) >= 1
        assert list(results.iterdir()) == [file]
        until(lambda: not group_exists(process.pid))


class TestKilled:
    """A bake that is stopped from outside leaves nothing: it is held up in the middle by its reader."""

    def bake(self, model: Path, target: Path, *, before: str = "") -> subprocess.Popen[str]:
        script = f"""
            import signal, sys, time
            from ropewalk_convert import pieces
            {before}
            pieces.CHUNK, pieces._CHUNKS_BETWEEN_REPORTS = 4096, 1
            sys.argv = ["ropewalk", "bake", {str(model)!r}, {str(target)!r}, *{TestBake.METHOD!r}]
            from ropewalk.cli import progress
            progress._Lines.update = lambda self, done, total: (print(done, flush=True), time.sleep(0.01))
            from ropewalk.cli.main import main
            sys.exit(main())
        """
        return subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )

    @pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_nothing_is_left(self, tiny_llama: Path, tmp_path: Path, signal_number: int) -> None:
        process = self.bake(tiny_llama, tmp_path / "out.gguf")
        assert process.stdout is not None and process.stdout.readline()
        process.send_signal(signal_number)
        _, stderr = process.communicate(timeout=60)
        assert (process.returncode, stderr) == (128 + signal_number, "ropewalk: Interrupted.\n")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("pause", [0.0, 0.01])
    def test_tidying_up_is_not_interrupted(self, tiny_llama: Path, tmp_path: Path, pause: float) -> None:
        """By somebody who presses Ctrl-C again and again, until it ends."""
        slow = "from pathlib import Path; unlink = Path.unlink; " + (
            "Path.unlink = lambda *a, **b: (time.sleep(0.3), unlink(*a, **b))"
        )
        process = self.bake(tiny_llama, tmp_path / "out.gguf", before=slow)
        assert process.stdout is not None and process.stdout.readline()
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            time.sleep(pause)
        _, stderr = process.communicate(timeout=60)
        assert (process.returncode, stderr) == (130, "ropewalk: Interrupted.\n")
        assert list(tmp_path.iterdir()) == []

    def test_tidying_up_that_never_ends_is_ended(self, tiny_llama: Path, tmp_path: Path) -> None:
        stuck = "from pathlib import Path; Path.unlink = lambda *a, **b: time.sleep(1000); " + (
            "from ropewalk.cli import interruption; interruption._UNDISTURBED_SECONDS = 0.2"
        )
        process = self.bake(tiny_llama, tmp_path / "out.gguf", before=stuck)
        assert process.stdout is not None and process.stdout.readline()
        while process.poll() is None:
            process.send_signal(signal.SIGTERM)
            time.sleep(0.05)
        assert process.communicate(timeout=60)[1] == ""
        assert process.returncode == 143

    def test_a_signal_that_is_ignored_stays_so(self, tiny_llama: Path, tmp_path: Path) -> None:
        """`nohup ropewalk bake ...`"""
        process = self.bake(
            tiny_llama, tmp_path / "out.gguf", before="signal.signal(signal.SIGHUP, signal.SIG_IGN)"
        )
        assert process.stdout is not None and process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        process.communicate(timeout=60)
        assert process.returncode == 0
        assert [path.name for path in tmp_path.iterdir()] == ["out.gguf"]


class TestClosedStreams:
    """Started with `>&-` and the like, by a shell."""

    def run(self, redirection: str, *arguments: str | Path) -> Outcome:
        done = subprocess.run(
            ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-m", "ropewalk", *arguments],
            capture_output=True,
            text=True,
            env=environment(),
            timeout=120,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    @pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
    def test_exit_codes_are_the_same(self, tiny_llama: Path, tmp_path: Path, redirection: str) -> None:
        assert self.run(redirection, "inspect", tiny_llama).exit_code == 0
        missing = self.run(redirection, "inspect", tmp_path / "missing.gguf")
        assert missing.exit_code == 3
        assert missing.stderr == "" or missing.sentence.startswith(str(tmp_path / "missing.gguf"))
        target = tmp_path / "out.gguf"
        assert self.run(redirection, "bake", tiny_llama, target, *TestBake.METHOD).exit_code == 0
        assert GGUFReader(target).fields["ropewalk.method"].contents() == "extra-mpe"
        assert run_process("inspect", target).exit_code == 0, "nothing was printed into it"

    @pytest.mark.usefixtures("patched_library")
    def test_ask(self, tiny_llama: Path, text: Path) -> None:
        arguments = ("ask", tiny_llama, text, "-q", "the thing?", "--max-tokens", "2", "--threads", "1")
        for redirection in (">&-", "<&- >&- 2>&-"):
            outcome = self.run(redirection, *arguments, "--beyond")
            assert outcome.exit_code == 0, outcome
            assert "Traceback" not in outcome.stderr


@pytest.mark.usefixtures("patched_library")
class TestChatInATerminal:
    def test_reads_answers_and_leaves(self, tiny_llama: Path, tmp_path: Path) -> None:
        document = tmp_path / "a.txt"
        document.write_text("the thing")
        with_terminal = Terminal("chat", tiny_llama, document, "--max-tokens", "4", "--threads", "1")
        with_terminal.wait_for("Read ")
        with_terminal.type("the?\r")
        with_terminal.wait_for("tokens/s")
        with_terminal.type("\x11")  # Ctrl+Q
        assert with_terminal.end() == 0
        assert "\x1b[?1049l" in with_terminal.seen, "the terminal is as it was"
        assert "Traceback" not in with_terminal.seen

    @pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
    def test_killed_it_gives_the_terminal_back(
        self, tiny_llama: Path, tmp_path: Path, signal_number: int
    ) -> None:
        document = tmp_path / "a.txt"
        document.write_text("the thing")
        terminal = Terminal("chat", tiny_llama, document, "--threads", "1")
        terminal.wait_for("Read ")
        terminal.kill(signal_number)
        assert terminal.end() == 128 + signal_number
        assert "\x1b[?1049l" in terminal.seen, "the terminal is as it was"
        assert terminal.seen.endswith("ropewalk: Interrupted.\r\n")
        assert "Traceback" not in terminal.seen

    def test_a_model_that_does_not_load_is_a_sentence(self, tmp_path: Path) -> None:
        broken = tmp_path / "broken.gguf"
        broken.write_text("This is no model. " * 100)
        terminal = Terminal("chat", broken)
        assert terminal.end() == 3
        last = terminal.seen.rpartition("\x1b[?1049l")[2]
        assert re.search(r"ropewalk: .*broken\.gguf", last)
        assert "Traceback" not in terminal.seen


class Terminal:
    """`ropewalk ARGUMENTS` in a terminal of 80 by 24."""

    def __init__(self, *arguments: str | Path) -> None:
        self._master, slave = pty.openpty()
        self.seen = ""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ropewalk", *map(str, arguments)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**environment(), "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"},
            start_new_session=True,
        )
        os.close(slave)

    def wait_for(self, words: str) -> None:
        """Read until the words are on the screen."""
        for _ in self._pieces():
            if words in self.seen:
                return
        raise AssertionError(f"{words!r} did not come: {self.seen[-2000:]}")

    def type(self, keys: str) -> None:
        """Press keys, and look at what comes only from now on."""
        self.seen = ""
        os.write(self._master, keys.encode())

    def kill(self, signal_number: int) -> None:
        """Send a signal to the process alone."""
        self._process.send_signal(signal_number)

    def end(self) -> int:
        """Read to the end and return the exit code."""
        for _ in self._pieces():
            pass
        return self._process.wait(timeout=30)

    def _pieces(self) -> Iterator[None]:
        until_time = time.monotonic() + 60
        while time.monotonic() < until_time:
            readable, _, _ = select.select([self._master], [], [], 0.2)
            if not readable:
                continue
            try:
                piece = os.read(self._master, 65536)
            except OSError as error:  # Linux, when the last process has closed its side
                assert error.errno == errno.EIO
                return
            if not piece:
                return
            self.seen += piece.decode("utf-8", "replace")
            yield


def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so, a minute at most."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.02)


def group_exists(group: int) -> bool:
    """Whether any process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
