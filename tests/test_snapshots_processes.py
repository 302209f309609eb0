"""Several processes on one shelf, and processes that are killed in the middle."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli_running import environment
from ropewalk.sessions import snapshot_entry
from ropewalk.sessions.snapshot_shelf import SnapshotShelf
from snapshot_writer import TEXTS
from standing_engine import StandingEngine, key

WRITER = Path(__file__).with_name("snapshot_writer.py")


def start(folder: Path, texts: str, seconds: float = 0.02) -> subprocess.Popen[str]:
    environ = environment()
    environ["PYTHONPATH"] += os.pathsep + str(WRITER.parent)
    command = [sys.executable, str(WRITER), str(folder), texts, str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


def assert_whole(folder: Path) -> list[str]:
    """Everything under a name of its own is whole and gives back its text; returns the ids."""
    told: list[str] = []
    shelf = SnapshotShelf(folder, 10**9, told.append)
    assert shelf.damaged() == ()
    for text in TEXTS:
        found = shelf.best(key(), text)
        if found is not None:
            engine = StandingEngine()
            assert shelf.restore(engine.as_engine, found) == len(text)
            assert engine.held == text
    assert told == []
    return [snapshot.id for snapshot in shelf.list()]


def assert_only_just_made(folder: Path) -> None:
    """What a prune left are folders that might be locked in a moment; a minute later they are removed.

    A process that is killed between making its folder and locking it leaves such a one.
    """
    for path in folder.iterdir():
        assert path.name.endswith(".part")
        assert list(path.iterdir()) == []
        os.utime(path, (time.time() - 61.0,) * 2)
    snapshot_entry.remove_leftovers(folder)


def test_processes_that_write_the_same_at_the_same_time(tmp_path: Path) -> None:
    writers = [start(tmp_path, order) for order in ("000012", "000021", "000102")]
    said = [writer.communicate()[0].split() for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    ids = {word for words in said for word in words}
    assert ids == set(assert_whole(tmp_path))
    assert len(ids) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(ids)


def test_a_process_that_is_killed_leaves_what_is_whole_and_what_the_next_one_removes(tmp_path: Path) -> None:
    chance = random.Random(4)
    left = rounds = 0
    while rounds < 5 or (left == 0 and rounds < 40):
        rounds += 1
        writer = start(tmp_path, "012")
        time.sleep(chance.uniform(0.0, 0.25))
        writer.kill()
        writer.communicate()
        left += any(path.name.startswith(".") for path in tmp_path.glob("*"))
        assert_whole(tmp_path)
        SnapshotShelf(tmp_path, 10**9).prune(0)
        assert_only_just_made(tmp_path)
        assert list(tmp_path.iterdir()) == []
    assert left > 0, "none was met in the middle"


def test_what_a_running_process_works_on_is_left_alone(tmp_path: Path) -> None:
    writer = start(tmp_path, "0", seconds=1.0)
    while not list(tmp_path.glob(".*.part/*")):
        assert writer.poll() is None
    assert snapshot_entry.remove_leftovers(tmp_path) == 0
    said, _ = writer.communicate()
    assert said.split() == assert_whole(tmp_path)


@pytest.mark.parametrize("locks", [True, False])
def test_leftovers_are_told_by_their_lock_or_else_their_age(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locks: bool
) -> None:
    if not locks:
        monkeypatch.setattr(snapshot_entry, "fcntl", None)
    now = time.time()
    ages = {"0" * 8: 0.0, "1" * 8: 7200.0, "2" * 8: 90000.0}
    for name, age in ages.items():
        path = tmp_path / f".{name}.part"
        path.mkdir()
        (path / "state").touch()
        os.utime(path, (now - age, now - age))
    young = tmp_path / ".33333333.part"
    young.mkdir()
    snapshot_entry.remove_leftovers(tmp_path)
    stay = [young] if locks else [tmp_path / ".00000000.part", tmp_path / ".11111111.part", young]
    assert sorted(tmp_path.iterdir()) == stay
    os.utime(young, (now - 90000.0, now - 90000.0))
    snapshot_entry.remove_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == stay[:-1]
