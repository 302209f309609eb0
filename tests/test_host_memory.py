"""What is available to this process: control groups that the tests write, and structures of other systems."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from ropewalk.backend import host
from ropewalk.backend.cgroup_memory import room_in_groups
from ropewalk.backend.other_systems import MemoryStatus, VmStatistics, available_of_pages

GB = 10**9


def _second(folder: Path, limit: int | str, current: int, inactive: int = 0, active: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{current}\n")
    (folder / "memory.stat").write_text(f"anon 1\ninactive_file {inactive}\nactive_file {active}\n")


def _first(folder: Path, limit: int, usage: int, inactive: int = 0, active: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{usage}\n")
    (folder / "memory.stat").write_text(
        f"inactive_file 5\nactive_file 7\ntotal_inactive_file {inactive}\ntotal_active_file {active}\n"
    )


def _room(tmp_path: Path, membership: str) -> int | None:
    (tmp_path / "membership").write_text(membership)
    return room_in_groups(tmp_path / "membership", tmp_path / "groups")


def test_page_cache_of_a_group_is_free(tmp_path: Path) -> None:
    _second(tmp_path / "groups", 8 * GB, 5 * GB, inactive=2 * GB, active=1 * GB)

    assert _room(tmp_path, "0::/\n") == 6 * GB


def test_the_tightest_of_the_groups_around_counts(tmp_path: Path) -> None:
    _second(tmp_path / "groups/outer", 4 * GB, 1 * GB)
    _second(tmp_path / "groups/outer/inner", "max", 1 * GB)
    _second(tmp_path / "groups/outer/inner/most", 6 * GB, 1 * GB)

    assert _room(tmp_path, "0::/outer/inner/most\n") == 3 * GB


def test_the_first_version_sums_over_groups_below(tmp_path: Path) -> None:
    _first(tmp_path / "groups/memory/job", 8 * GB, 5 * GB, inactive=1 * GB, active=1 * GB)

    assert _room(tmp_path, "5:cpu,cpuacct:/\n4:memory:/job\n0::/\n") == 5 * GB


def test_a_path_of_the_machine_outside(tmp_path: Path) -> None:
    """A container that sees its own group at the mount, and is told the path from outside."""
    _first(tmp_path / "groups/memory", 2 * GB, 1 * GB)

    assert _room(tmp_path, "4:memory:/docker/0123\n") == 1 * GB


def test_no_limit_and_no_groups(tmp_path: Path) -> None:
    _second(tmp_path / "groups", "max", 1 * GB)

    assert _room(tmp_path, "0::/\n") is None
    assert _room(tmp_path, "") is None
    assert room_in_groups(tmp_path / "nothing", tmp_path) is None


def test_more_used_than_allowed_leaves_nothing(tmp_path: Path) -> None:
    _second(tmp_path / "groups", 1 * GB, 2 * GB)

    assert _room(tmp_path, "0::/\n") == 0


def test_a_groups_limit_holds_for_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "room_in_groups", lambda: 3 * GB)
    own = host.available_memory() - 3 * GB

    assert 0 <= own < 2 * GB  # what this process has filled


def test_where_nothing_is_known_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_field_bytes", lambda *_: None)
    monkeypatch.setattr(host, "available_elsewhere", lambda: None)

    assert host.available_memory() > 2**60


def test_structures_of_other_systems_have_their_sizes() -> None:
    """As C lays them out: sizeof(MEMORYSTATUSEX) is 64, and HOST_VM_INFO64_COUNT of macOS 10.9 on is 38."""
    assert ctypes.sizeof(MemoryStatus) == 64
    assert ctypes.sizeof(VmStatistics) // 4 == 38


def test_used_pages_of_macos() -> None:
    pages = VmStatistics(internal=100, purgeable=10, wired=50, compressor=20, free=5, inactive=300)

    assert available_of_pages(1000 * 4096, 4096, pages) == (1000 - 160) * 4096
