"""Runs the command line in this process on a fake engine, and as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from fake_engine import FakeEngine
from ropewalk.cli.run import run
from ropewalk.sessions.snapshot_budget import VARIABLE as BUDGET

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Outcome:
    """What a command left."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def sentence(self) -> str:
        """The one line on stderr, checked to be one and no traceback."""
        lines = self.stderr.splitlines()
        assert len(lines) == 1, self.stderr
        assert lines[0].startswith("ropewalk: "), self.stderr
        return lines[0].removeprefix("ropewalk: ")


class CommandLine:
    """`ropewalk` in this process; verbs that run a model get `engine`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capfd = monkeypatch, capfd
        self.engine = FakeEngine()
        monkeypatch.setenv(BUDGET, "0")  # no test leaves snapshots in a person's cache

    def __call__(self, *arguments: str | Path) -> Outcome:
        fake = type("StartsTheFake", (), {"start": staticmethod(lambda: self.engine)})
        self._monkeypatch.setattr("ropewalk.cli.running.Engine", fake)
        exit_code = run([str(argument) for argument in arguments])
        captured = self._capfd.readouterr()
        return Outcome(exit_code, captured.out, captured.err)


def environment() -> dict[str, str]:
    """This process's environment, with the source roots."""
    roots = os.pathsep.join([str(ROOT / "app"), str(ROOT / "converters")])
    return {**os.environ, "PYTHONPATH": roots}


def start_process(arguments: Sequence[str | Path]) -> subprocess.Popen[str]:
    """`python -m ropewalk ARGUMENTS`, running."""
    return subprocess.Popen(
        [sys.executable, "-m", "ropewalk", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )


def run_process(*arguments: str | Path) -> Outcome:
    """`python -m ropewalk ARGUMENTS`, to its end."""
    process = start_process(arguments)
    stdout, stderr = process.communicate(timeout=120)
    return Outcome(process.returncode, stdout, stderr)
