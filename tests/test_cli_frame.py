"""The command's frame: help, usage errors, exit codes, pipes, interruption."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from cli_running import CommandLine, environment, run_process
from ropewalk.cli.verbs import VERBS, ropewalk


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capfd)


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_lists_the_verbs_that_exist(command: CommandLine, arguments: tuple[str, ...]) -> None:
    outcome = command(*arguments)
    assert outcome.exit_code == 0
    assert outcome.stderr == ""
    for verb in (
        *("pull", "bake", "unbake", "inspect", "passkey", "ask", "chat", "doctor", "methods", "plan"),
        *("compare", "choose"),
    ):
        assert f"\n  {verb} " in outcome.stdout
    assert "\n  config " not in outcome.stdout


@pytest.mark.parametrize("verb", list(VERBS))
def test_every_verb_has_help_that_begins_with_its_summary(command: CommandLine, verb: str) -> None:
    outcome = command(verb, "--help")
    assert outcome.exit_code == 0
    told = ropewalk.get_command(click.Context(ropewalk), verb)
    assert told is not None and told.help is not None
    assert " ".join(told.help.split()).startswith(VERBS[verb].rstrip(".")), (
        "the list and the verb say the same"
    )


def test_help_imports_nothing_but_click_and_the_verbs_names() -> None:
    code = (
        "import sys; before = set(sys.modules);"
        "from ropewalk.cli.run import run; assert run(['--help']) == 0;"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names);"
        "assert new <= {'click', 'ropewalk'}, new"
    )
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("frobnicate",), "frobnicate"),
        (("--frobnicate",), "--frobnicate"),
        (("bake",), "IN"),
        (("bake", "a.gguf", "b.gguf", "--method", "pi"), "--target-length"),
        (("bake", "a.gguf", "--method", "pi", "--target-length", "9"), "OUT"),
        (("bake", "a.gguf", "b.gguf", "-o", "c.gguf", "--method", "pi", "--target-length", "9"), "twice"),
        (("bake", "a", "b", "--method", "pi", "--target-length", "9", "--method-option", "x"), "NAME=VALUE"),
        (("passkey", "m.gguf", "--lengths", "4000,many"), "4000,many"),
        (("passkey", "m.gguf", "--lengths", "4000", "--depths", "1.5"), "1.5"),
        (("passkey", "m.gguf", "--lengths", "4000", "--kv-type", "f12"), "f12"),
        (("methods", "alchemy"), "alchemy"),
    ],
)
def test_usage_errors_are_one_sentence_and_2(
    command: CommandLine, arguments: tuple[str, ...], words: str
) -> None:
    outcome = command(*arguments)
    assert outcome.exit_code == 2
    assert words in outcome.sentence
    assert "--help" in outcome.sentence
    assert outcome.stdout == ""


def test_a_process_says_it_in_one_line_too(tmp_path: Path) -> None:
    outcome = run_process("inspect", tmp_path / "missing.gguf")
    assert outcome.exit_code == 3
    assert "missing.gguf" in outcome.sentence
    assert outcome.stdout == ""


def test_version(command: CommandLine) -> None:
    assert command("--version").stdout.startswith("ropewalk ")


def test_a_defect_is_called_one(
    command: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = tmp_path / "model.gguf"
    model.touch()
    command.engine.load_error = ZeroDivisionError("division\nby zero")
    outcome = command("passkey", model, "--lengths", "400")
    assert outcome.exit_code == 1
    assert outcome.sentence == "Internal error, please report it: ZeroDivisionError: division by zero."
    monkeypatch.setenv("ROPEWALK_TRACEBACK", "1")
    assert "Traceback" in command("passkey", model, "--lengths", "400").stderr


def test_a_reader_that_stops_early_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "ropewalk", "methods"],
        env=environment(),
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert done.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_under_stdout_is_one_sentence() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "ropewalk", "methods"],
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "ropewalk: no space left on device.\n"


@pytest.mark.skipif(not hasattr(signal, "SIGTERM") or sys.platform == "win32", reason="needs signals")
def test_an_interruption_out_of_an_exec_has_its_own_exit_code(tmp_path: Path) -> None:
    """As one that comes while a dataclass is made has; Python would end by SIGINT for it."""
    script = (
        "import os, signal, sys\n"
        "from ropewalk.cli import main, run\n"
        "text = 'os.kill(os.getpid(), signal.SIGTERM)\\nwhile True: pass'\n"
        "run.ropewalk.make_context = lambda *_: exec(text, {'os': os, 'signal': signal})\n"
        "sys.exit(main.main())\n"
    )
    (tmp_path / "interrupted.py").write_text(script)  # Python looks at it only after a module, as ours
    done = subprocess.run(
        [sys.executable, "-m", "interrupted"],
        env=environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (143, "ropewalk: Interrupted.\n")
