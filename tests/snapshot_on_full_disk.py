"""A process that reads a text and keeps it on a disk that fills up, and again with room: `MEANS DISK MODEL`.

The disk is a small file system that this process and its children alone see, or else a limit for the size of
files. Prints what came of it as JSON.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

from ropewalk.engine import Engine, EngineOptions
from ropewalk.sessions.snapshot_shelf import SnapshotShelf
from standing_engine import key

ROOM = 40_000
"""Bytes; the state takes some 75 kB."""

TEXT = list(range(3, 145))


def main(means: str, disk: Path, model: Path) -> None:
    """Reads, keeps, answers, twice."""
    _limit(means, disk, ROOM)
    told: list[str] = []
    shelf = SnapshotShelf(disk / "snapshots", 10**9, told.append)
    runs = []
    for enough in (False, True):
        if enough:
            _limit(means, disk, 10_000_000)
        with Engine.start() as engine:
            engine.load(model, EngineOptions(n_ctx=512, threads=1, gpu_layers=0))
            engine.prefill(TEXT)
            kept = shelf.put(engine, key(), "a text")
            stream = engine.generate(5, stop_at_eog=False)
            assert list(stream)
            left = sorted(str(path.relative_to(disk)) for path in disk.rglob("*") if path.is_file())
            runs.append({"kept": kept is not None, "answer": stream.result.token_ids, "left": left})
    print(json.dumps({"told": told, "runs": runs}))


def _limit(means: str, disk: Path, room: int) -> None:
    if means == "limited":
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
        return
    mounted = any(line.split()[1] == str(disk) for line in Path("/proc/mounts").read_text().splitlines())
    options = f"{'remount,' if mounted else ''}size={room}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(disk)], check=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
