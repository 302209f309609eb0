"""`ropewalk snapshots`."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import platformdirs
import pytest

from cli_running import CommandLine
from ropewalk.sessions.snapshot_entry import MANIFEST
from ropewalk.sessions.snapshot_shelf import SnapshotShelf
from standing_engine import StandingEngine, key

TEXT = list(range(50))


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> CommandLine:
    """With a cache of its own."""
    command = CommandLine(monkeypatch, capfd)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("ROPEWALK_SNAPSHOT_BUDGET", "1GB")
    return command


def folder() -> Path:
    return platformdirs.user_cache_path("ropewalk") / "snapshots"


def keep(title: str, first: int, used: float) -> str:
    snapshot = SnapshotShelf().put(StandingEngine([first, *TEXT]).as_engine, key(), title)
    assert snapshot is not None
    os.utime(folder() / snapshot.id / MANIFEST, (used, used))
    return snapshot.id


def test_nothing_is_kept(command: CommandLine) -> None:
    for _ in range(2):
        outcome = command("snapshots", "list")
        assert (outcome.exit_code, outcome.stderr) == (0, "")
        assert outcome.stdout == f"No snapshots are kept in {folder()}.\n"
        folder().mkdir(parents=True, exist_ok=True)
    assert json.loads(command("snapshots", "list", "--json").stdout)["snapshots"] == []
    outcome = command("snapshots", "prune")
    assert outcome.stdout == "Removed nothing; 0 snapshots, 0 bytes of 1.0 GB stay.\n"


def test_what_is_kept_is_listed(command: CommandLine) -> None:
    old = keep("Moby\x1b[31m Dick\n", 1, 1_000_000_000)
    new = keep("War and Peace", 2, 1_500_000_000)
    lines = command("snapshots", "list").stdout.splitlines()
    assert lines[0].split() == ["id", "tokens", "size", "last", "used", "model", "text"]
    assert lines[1].split() == [
        *(
            new,
            "51",
            "5.3",
            "kB",
            *time.strftime("%Y-%m-%d %H:%M", time.localtime(1_500_000_000)).split(),
            "tiny.gguf",
            "War",
            "and",
            "Peace",
        ),
    ]
    assert lines[2].startswith(old)
    assert lines[2].endswith("Moby [31m Dick")
    assert lines[3] == f"2 snapshots, 10.6 kB of 1.0 GB, in {folder()}."
    said = json.loads(command("snapshots", "list", "--json").stdout)
    assert (said["folder"], said["budget"], said["bytes"]) == (str(folder()), 10**9, 2 * 51 * 104)
    assert said["damaged"] == []
    first = said["snapshots"][0]
    created = first.pop("created")
    assert created > "2026"
    assert first == {
        "id": new,
        "title": "War and Peace",
        "model": "tiny.gguf",
        "tokens": 51,
        "bytes": 51 * 104,
        "kv_type": "f16",
        "plan": "none",
        "last_used": "2017-07-14T02:40:00+00:00",
    }


def test_deleting_and_pruning(command: CommandLine) -> None:
    ids = [keep("a text", n, 1_000_000_000 + n) for n in range(4)]
    outcome = command("snapshots", "delete", ids[0][:10])
    assert outcome.stdout == f"Removed 1 snapshot: {ids[0]}.\n"
    outcome = command("snapshots", "delete", ids[0])
    assert outcome.exit_code == 2
    assert outcome.sentence == f"'{ids[0]}' is no snapshot's id: `ropewalk snapshots list` shows them."
    (folder() / ids[1] / MANIFEST).write_bytes(b"not a manifest")
    assert (
        "1 more is damaged: `ropewalk snapshots prune` removes them." in command("snapshots", "list").stdout
    )
    outcome = command("snapshots", "prune", "--budget", "6kB")
    assert outcome.stdout == (
        "Removed 1 snapshot, 5.3 kB and 1 damaged snapshot; 1 snapshot, 5.3 kB of 6.0 kB stay.\n"
    )
    assert [path.name for path in folder().iterdir()] == [ids[3]]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("prune", "--budget", "much"), "'much' is no size"),
        (("delete",), "ID..."),
        (("frobnicate",), "frobnicate"),
    ],
)
def test_usage_errors(command: CommandLine, arguments: tuple[str, ...], words: str) -> None:
    outcome = command("snapshots", *arguments)
    assert outcome.exit_code == 2
    assert words in outcome.sentence


def test_a_budget_that_is_none(command: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROPEWALK_SNAPSHOT_BUDGET", "lots")
    outcome = command("snapshots", "list")
    assert outcome.exit_code == 2
    assert "ROPEWALK_SNAPSHOT_BUDGET" in outcome.sentence


@pytest.mark.parametrize("verb", [("list",), ("list", "--json"), ("prune",), ("delete", "abc")])
def test_a_folder_that_is_none_is_a_sentence(command: CommandLine, verb: tuple[str, ...]) -> None:
    folder().parent.mkdir(parents=True)
    folder().write_text("a file")
    outcome = command("snapshots", *verb)
    assert outcome.exit_code == 1
    assert outcome.sentence == f"{folder()}: not a directory."
    assert outcome.stdout == ""
