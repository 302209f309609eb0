"""Runs of the command that get a signal at a chosen moment: everything is imported once, each run is a fork.

A moment is a line of Python about to be executed, counted from the beginning of the run. This file is also
the script of the process that forks.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

MARK = "ROPEWALK_TESTS_RUN"
"""A variable in the environment of whatever a run starts."""

_COUNTED = ("ropewalk_convert", "ropewalk/cli", "contextlib.py")
_PATIENCE = 20.0


@dataclass(frozen=True)
class Run:
    """A run to make.

    Attributes:
        arguments: of the command.
        folder: where it writes.
        moment: the line before which the signal comes; 0 for none.
        signal: its number.
        existing: what to put into files of the folder before.
        since: the name of a file without which nothing is counted; "" for none.
    """

    arguments: Sequence[str]
    folder: str
    moment: int = 0
    signal: int = signal.SIGINT
    existing: tuple[tuple[str, str], ...] = ()
    since: str = ""


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Attributes:
        code: its exit code, negative for a signal.
        stderr: what it printed there.
        lines: how many lines were counted, 0 where it could not say so any more.
        where: the line that the signal came before.
        files: what is in the folder, by name: the checksum of each file.
        empty: the names among them of empty files.
        processes: what it started and is still there after a while.
    """

    code: int
    stderr: str
    lines: int
    where: str
    files: dict[str, str]
    empty: tuple[str, ...]
    processes: tuple[int, ...]


def make(runs: Sequence[Run], notes: Path) -> list[Ended]:
    """Make runs one after the other.

    Args:
        runs: the runs.
        notes: a folder for what they print.
    """
    from ropewalk_convert.reporting_child import ReportingChild  # the script has its own way to it

    request = {"runs": [asdict(run) for run in runs], "notes": str(notes)}
    with ReportingChild(Path(__file__), request) as child:
        ended = [
            Ended(**{**message, "empty": tuple(message["empty"]), "processes": tuple(message["processes"])})
            for message in child.messages()
        ]
        end = child.end()
    assert len(ended) == len(runs), end
    return ended


def started_with(mark: str) -> list[int]:
    """The processes with `MARK=mark` in the environment that they were started with."""
    found = []
    wanted = f"{MARK}={mark}".encode()
    proc = Path("/proc")
    for entry in proc.iterdir() if proc.exists() else ():  # elsewhere `test_reporting_child` has to do
        if entry.name.isdigit():
            try:
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:  # it has ended, or is another user's
                continue
    return found


def still_there(mark: str) -> list[int]:
    """Those that are left after a while."""
    deadline = time.monotonic() + _PATIENCE
    while (found := started_with(mark)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def main(request: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> None:
    """What the process that forks does."""
    for name in ("main", "run", "convert", "bake", "failures"):
        importlib.import_module(f"ropewalk.cli.{name}")
    if "ROPEWALK_TESTS_CONVERTER" in os.environ:
        converter = importlib.import_module("ropewalk_convert.converter")
        vars(converter)["_CHILD"] = Path(__file__).with_name("shared_converter.py")
    notes = Path(request["notes"])
    for number, asked in enumerate(request["runs"]):
        mark = f"{os.getpid()}.{number}"
        folder = Path(asked["folder"])
        for name, content in asked["existing"]:
            (folder / name).write_text(content)
        pid = os.fork()
        if pid == 0:
            _run(asked, mark, notes / mark)
        _, status = os.waitpid(pid, 0)
        said = json.loads((notes / f"{mark}.json").read_text())
        report(
            {
                "code": os.waitstatus_to_exitcode(status),
                "stderr": (notes / mark).read_text(),
                "lines": said.get("lines", 0),
                "where": said.get("where", ""),
                "processes": still_there(mark),
                "files": {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()},
                "empty": [path.name for path in folder.iterdir() if not path.stat().st_size],
            }
        )


def _run(asked: dict[str, Any], mark: str, stderr: Path) -> None:
    """Run the command in this fork, and end."""
    code = 70
    try:
        os.environ[MARK] = mark
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(os.open(stderr, os.O_WRONLY | os.O_CREAT), 2)
        sys.argv = ["ropewalk", *asked["arguments"]]
        since = Path(asked["folder"], asked["since"])
        notes = stderr.with_suffix(stderr.suffix + ".json")
        moment = _Moment(asked["moment"], asked["signal"], since, notes)
        command = importlib.import_module("ropewalk.cli.main").main
        sys.settrace(moment.trace)
        try:
            code = command()
        finally:
            sys.settrace(None)
            moment.tell()
    finally:
        sys.stderr.flush()
        os._exit(code)


class _Moment:
    """Counts lines, and sends the signal before the one that was asked for."""

    def __init__(self, moment: int, number: int, since: Path, notes: Path) -> None:
        self._moment, self._number, self._since, self._notes = moment, number, str(since), notes
        self._lines = 0
        self._where = ""
        self.tell()

    def tell(self) -> None:
        self._notes.write_text(json.dumps({"lines": self._lines, "where": self._where}))

    def trace(self, frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        if not any(part in frame.f_code.co_filename for part in _COUNTED):
            return None
        if event == "line" and os.access(self._since, os.F_OK):
            self._lines += 1
            if self._lines == self._moment:
                self._where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                self.tell()
                os.kill(os.getpid(), self._number)
        return self.trace
