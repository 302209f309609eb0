"""Where bake writes: what it refuses to replace, links, leftovers of killed processes, two at once."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from cli_running import environment
from gguf_files import write_rope_keys
from ropewalk_convert import SourceError, TargetError, bake
from ropewalk_convert.leftovers import hold
from ropewalk_convert.whole_file import written_set, written_whole
from ropewalk_plan import GgufError, GgufHeader, read_plan


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    return write_rope_keys(folder / "plain.gguf")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "out"
    path.mkdir()
    return path


def bake_to(source: Path, target: Path, *, force: bool = False) -> Path:
    return bake(source, target, method="pi", target_length=4096, force=force).target


def is_baked(path: Path) -> bool:
    return read_plan(GgufHeader.read(path)) is not None


@pytest.mark.parametrize("force", [False, True])
def test_what_is_no_regular_file_is_never_replaced(source: Path, folder: Path, force: bool) -> None:
    pipe = folder / "out.gguf"
    os.mkfifo(pipe)
    (folder / "link.gguf").symlink_to(pipe)
    for target in (pipe, folder / "link.gguf"):
        with pytest.raises(TargetError, match=f"{target.name} is no regular file; give another name"):
            bake_to(source, target, force=force)
    assert pipe.is_fifo()
    assert (folder / "link.gguf").is_symlink()
    assert len(list(folder.iterdir())) == 2


def test_a_link_is_followed(source: Path, folder: Path) -> None:
    (folder / "real").mkdir()
    real, link = folder / "real" / "a.gguf", folder / "link.gguf"
    real.write_bytes(b"precious")
    link.symlink_to(Path("real") / "a.gguf")
    with pytest.raises(TargetError, match=r"link\.gguf exists already"):
        bake_to(source, link)
    assert real.read_bytes() == b"precious"
    assert bake_to(source, link, force=True) == link
    assert link.is_symlink() and not real.is_symlink()
    assert is_baked(real)
    assert [p.name for p in real.parent.iterdir()] == ["a.gguf"]


@pytest.mark.parametrize("force", [False, True])
def test_a_link_that_leads_nowhere_is_refused(source: Path, folder: Path, force: bool) -> None:
    link = folder / "link.gguf"
    link.symlink_to(folder / "missing.gguf")
    with pytest.raises(TargetError, match=r"link\.gguf is a link that leads nowhere"):
        bake_to(source, link, force=force)
    assert [p.name for p in folder.iterdir()] == ["link.gguf"]
    assert link.is_symlink()


def test_a_target_that_appears_in_the_last_moment_stays(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the last look at the name, and before it is given: the giving itself has to ask."""
    target = folder / "out.gguf"
    link = os.link

    def someone_else(source: Path, name: Path) -> None:
        target.write_bytes(b"precious")
        link(source, name)

    monkeypatch.setattr(os, "link", someone_else)
    with (
        pytest.raises(TargetError, match="appeared meanwhile"),
        written_whole(target, force=False, needed=1) as file,
    ):
        file.write(b"x")
    assert target.read_bytes() == b"precious"
    assert [p.name for p in folder.iterdir()] == ["out.gguf"]


@pytest.mark.parametrize("existing", [False, True])
def test_what_replaces_a_file_is_on_the_disk_before(
    folder: Path, monkeypatch: pytest.MonkeyPatch, existing: bool
) -> None:
    """A power failure must not take both; a new file is the system's to write, as that of `cp`."""
    targets = [folder / "a.gguf", folder / "b.gguf"]
    if existing:
        targets[1].write_bytes(b"precious")
    synced: list[int] = []
    sync = os.fsync

    def watched(descriptor: int) -> None:
        if len(synced) < len(targets):
            assert not targets[0].exists() and targets[1].read_bytes() == b"precious"
        synced.append(os.fstat(descriptor).st_ino)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    with written_set(targets, force=True, needed=2) as files:
        for file in files:
            file.write(b"x")
        inodes = [file.path.stat().st_ino for file in files]
    assert synced[:2] == (inodes if existing else [])
    assert [target.read_bytes() for target in targets] == [b"x", b"x"]


@pytest.mark.parametrize("taken", [False, True])
def test_a_file_system_without_hard_links(folder: Path, monkeypatch: pytest.MonkeyPatch, taken: bool) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", no_links)
    target = folder / "out.gguf"
    if taken:
        target.write_bytes(b"precious")
        with pytest.raises(TargetError, match="appeared"), written_whole(target, force=False, needed=1):
            pass
    else:
        with written_whole(target, force=False, needed=1) as file:
            file.write(b"whole")
    assert target.read_bytes() == (b"precious" if taken else b"whole")
    assert [p.name for p in folder.iterdir()] == ["out.gguf"]


def leave_behind(target: Path, *, begun: bool = False) -> Path:
    """Start writing `target` in a process of its own, kill it outright, and return what it left."""
    script = f"""
        import sys, time
        from pathlib import Path
        from ropewalk_convert.whole_file import written_whole
        with written_whole(Path({str(target)!r}), force=False, needed=1) as file:
            file.write(b"x" * {begun:d})
            file.flush()
            print(file.path, flush=True)
            time.sleep(60)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True, env=environment()
    )
    assert process.stdout is not None
    path = Path(process.stdout.readline().strip())
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    assert path.exists()
    return path


def grow_old(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


def test_leftovers_of_a_killed_process_go_with_the_next_bake(source: Path, folder: Path) -> None:
    target = folder / "out.gguf"
    left = leave_behind(target)
    grow_old(left, 300)
    others = [folder / ".other.0123abcd.part", folder / ".out.part", folder / ".out.x.0123abcd.part"]
    for other in others:
        other.touch()
        grow_old(other, 300_000)
    bake_to(source, target)
    assert sorted(folder.iterdir()) == sorted([target, *others])


def test_a_file_that_is_being_written_is_no_leftover(folder: Path) -> None:
    target = folder / "out.gguf"
    with written_whole(target, force=True, needed=1) as first:
        grow_old(first.path, 300_000)
        with written_whole(target, force=True, needed=1) as second:
            second.write(b"second")
        assert first.path.exists()
        first.write(b"first")
    assert target.read_bytes() == b"first"
    assert [p.name for p in folder.iterdir()] == ["out.gguf"]


def test_an_empty_file_that_was_locked_goes_at_once(source: Path, folder: Path) -> None:
    """As a conversion's, killed before its first byte."""
    path = folder / ".out.0123abcd.part"
    with path.open("xb") as file:
        hold(file.fileno())
        bake_to(source, folder / "out.gguf")
        assert path.exists()
    bake_to(source, folder / "out.gguf", force=True)
    assert not path.exists()


def test_what_was_begun_goes_at_once(source: Path, folder: Path) -> None:
    """A writer locks before its first byte, so the disk's room comes back with the very next run."""
    left = leave_behind(folder / "out.gguf", begun=True)
    assert left.stat().st_size == 1
    bake_to(source, folder / "out.gguf")
    assert [path.name for path in folder.iterdir()] == ["out.gguf"]


def test_room_that_leftovers_take_is_free_room(
    source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk with room for one copy only, on which a killed run left most of one."""
    left = leave_behind(folder / "out.gguf", begun=True)
    usage = shutil.disk_usage(folder)
    room = {True: usage._replace(free=10), False: usage}
    monkeypatch.setattr("ropewalk_convert.target.shutil.disk_usage", lambda _: room[left.exists()])
    bake_to(source, folder / "out.gguf")
    assert is_baked(folder / "out.gguf")


def test_a_fresh_one_is_left_alone(folder: Path) -> None:
    """An empty one, whose writer may be about to lock it."""
    fresh = folder / ".out.0123abcd.part"
    fresh.touch()
    with written_whole(folder / "out.gguf", force=True, needed=1):
        pass
    assert fresh.exists()


def test_a_source_that_gets_shorter(source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ropewalk_convert.pieces.CHUNK", 64)

    def shorten(done: int, total: int) -> None:
        os.truncate(source, source.stat().st_size // 2)

    with pytest.raises(SourceError, match=r"plain\.gguf changed while it was copied"):
        bake(source, folder / "out.gguf", method="pi", target_length=4096, progress=shorten)
    assert list(folder.iterdir()) == []


def test_short_reads_are_put_together(source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bake_to(source, folder / "whole.gguf").read_bytes()
    plain_open = Path.open

    class Stingy:
        def __init__(self, file: object) -> None:
            self.file = file

        def readinto(self, buffer: memoryview) -> int:
            return self.file.readinto(buffer[:7])  # type: ignore[attr-defined, no-any-return]  # any file

        def __enter__(self) -> Stingy:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()  # type: ignore[attr-defined]  # any file

        def __getattr__(self, name: str) -> object:
            return getattr(self.file, name)

    def open_stingy(path: Path, mode: str = "r", *args: object, **options: object) -> object:
        file = plain_open(path, mode, *args, **options)  # type: ignore[call-overload]  # any mode
        return Stingy(file) if options.get("buffering") == 0 else file

    monkeypatch.setattr(Path, "open", open_stingy)
    assert bake_to(source, folder / "pieces.gguf").read_bytes() == whole


def test_a_source_that_is_no_regular_file(folder: Path) -> None:
    """A pipe would be waited on for ever."""
    pipe = folder / "pipe.gguf"
    os.mkfifo(pipe)
    with pytest.raises(GgufError, match=r"pipe\.gguf is no regular file"):
        GgufHeader.read(pipe)
    with pytest.raises(SourceError, match=r"pipe\.gguf is no regular file"):
        bake_to(pipe, folder / "out.gguf")
    assert [p.name for p in folder.iterdir()] == ["pipe.gguf"]
