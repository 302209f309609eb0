"""A command whose disk is full, or fills up while it works: what it leaves, and how it does with more room.

The disk is a small file system of its own, mounted where nobody else sees it. Where that is not allowed, it
is this process's limit for the size of a file, and a disk that says it is full; the error's number is all
that differs then.
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from cli_running import environment
from copied_conversion import CONVERTED
from held_conversion import GO_ON
from ropewalk_convert import converter, huggingface, quantize, target, whole_file

Means = Literal["mounted", "limited"]
Stage = Literal["", "converting", "quantizing", "writing"]

_ALONE = ("unshare", "--user", "--map-root-user", "--mount")
ROOMY = 100_000_000
"""Bytes that are enough; an upper bound for a tiny model is some 70 MB."""

_EATEN = "eaten by somebody else"
_LEFT = 4096  # bytes


@dataclass(frozen=True)
class FullDisk:
    """What came of it.

    Attributes:
        code: the command's exit code.
        stderr: what it said.
        left: names of what is on the disk then, but for what filled it.
        again: the exit code of the same command when there is room.
        made: names of what is there then.
    """

    code: int
    stderr: str
    left: tuple[str, ...]
    again: int
    made: tuple[str, ...]


def means_here() -> list[Means]:
    """The means there are on this machine."""
    script = "mount -t tmpfs none /tmp"
    tried = shutil.which("unshare") and subprocess.run(
        [*_ALONE, "sh", "-c", script], capture_output=True, check=False
    )
    return ["mounted", "limited"] if tried and tried.returncode == 0 else ["limited"]


def run_on_full_disk(
    means: Means,
    disk: Path,
    arguments: list[str],
    *,
    converted: Path,
    full_at: Stage = "",
    room: int = ROOMY,
) -> FullDisk:
    """Run `ropewalk ARGUMENTS`, a conversion, and again when there is room.

    Upstream's converter runs where that is when the disk fills up; elsewhere its file is copied.

    Args:
        means: how the disk is made small.
        disk: an empty folder: the disk's.
        arguments: what they write goes there.
        converted: what upstream's converter makes of the checkpoint.
        full_at: the step in which somebody else takes all room that is left.
        room: bytes that the disk has from the beginning.
    """
    asked = {
        "means": means,
        "disk": str(disk),
        "arguments": arguments,
        "full_at": full_at,
        "room": room,
    }
    command = [sys.executable, __file__, json.dumps(asked)]
    done = subprocess.run(
        [*_ALONE, *command] if means == "mounted" else command,
        capture_output=True,
        text=True,
        env={**environment(), CONVERTED: str(converted), GO_ON: str(disk.parent / "go on")},
        cwd=disk.parent,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, second = json.loads(done.stdout.splitlines()[-1])  # after what the command prints
    return FullDisk(
        first["code"], first["stderr"], tuple(first["left"]), second["code"], tuple(second["left"])
    )


def _main(asked: dict[str, Any]) -> None:
    folder, room = Path(asked["disk"]), asked["room"]
    disk = _Mounted(folder, room) if asked["means"] == "mounted" else _Limited(folder, room)
    for name in ("main", "run", "convert", "failures"):
        importlib.import_module(f"ropewalk.cli.{name}")
    if asked["full_at"]:
        _before_the_first(*_CALLED_AT[asked["full_at"]], disk.fill)
    runs = []
    for which in ("held" if asked["full_at"] == "converting" else "copied", "copied"):
        vars(converter)["_CHILD"] = Path(__file__).with_name(f"{which}_conversion.py")
        code, stderr = _command(asked["arguments"], folder.parent / "stderr")
        disk.make_room()
        runs.append({"code": code, "stderr": stderr, "left": sorted(path.name for path in folder.iterdir())})
    print(json.dumps(runs))


_CALLED_AT: Mapping[str, tuple[ModuleType, str]] = {
    "converting": (huggingface, "_check_early"),  # the process that converts waits meanwhile
    "quantizing": (quantize, "run_quantizer"),
    "writing": (whole_file, "hold"),  # the last file is there, and empty
}
"""A function that is called in each step, after what is checked before it."""


def _before_the_first(module: ModuleType, name: str, act: Callable[[], None]) -> None:
    """Do something when a function is called for the first time, before it."""
    plain = vars(module)[name]

    def called(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401  # whatever it is given
        if vars(module)[name] is called:
            vars(module)[name] = plain
            act()
        return plain(*arguments, **options)

    vars(module)[name] = called


def _command(arguments: list[str], stderr: Path) -> tuple[int, str]:
    """The command in this process: its exit code, and what it says on stderr."""
    saved = os.dup(2)
    with stderr.open("w+") as file:
        os.dup2(file.fileno(), 2)
        try:
            code = importlib.import_module("ropewalk.cli.run").run(arguments)
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
        file.seek(0)
        return int(code), file.read()


class _Mounted:
    """A small file system in memory, which this process and its children alone see."""

    def __init__(self, folder: Path, room: int) -> None:
        self._folder = folder
        self._mount(f"size={room}", "none")

    def fill(self) -> None:
        """Take all room that is left."""
        with (self._folder / _EATEN).open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(1 << 20)):
                pass
        assert shutil.disk_usage(self._folder).free == 0
        Path(os.environ[GO_ON]).touch()

    def make_room(self) -> None:
        """Give it room enough."""
        self._mount(f"remount,size={ROOMY}", str(self._folder))
        (self._folder / _EATEN).unlink(missing_ok=True)

    def _mount(self, options: str, what: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, what, str(self._folder)], check=True)


class _Limited:
    """A limit for the size of files, where nothing can be mounted; the folder is as it is."""

    def __init__(self, folder: Path, room: int) -> None:
        self._limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        self._usage = shutil.disk_usage(folder)
        vars(target)["_DISK_FULL"] = {errno.EFBIG}  # what a file beyond the limit is told by
        self._free = room
        vars(shutil)["disk_usage"] = lambda _: self._usage._replace(free=self._free)

    def fill(self) -> None:
        """Let no file grow beyond a few bytes, here and in all children."""
        self._free = 0
        for pid in (0, *_children()):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (_LEFT, self._limits[1]))
        Path(os.environ[GO_ON]).touch()

    def make_room(self) -> None:
        """Lift the limit."""
        self._free = ROOMY
        resource.setrlimit(resource.RLIMIT_FSIZE, self._limits)


def _children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
