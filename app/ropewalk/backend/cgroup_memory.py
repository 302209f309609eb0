"""The memory limits of Linux's control groups: of containers, services and batch jobs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_RECLAIMABLE = ("inactive_file", "active_file")
"""Page cache, mapped files included: the kernel drops it before it refuses memory."""


@dataclass(frozen=True)
class _Version:
    """What the files of a version of control groups are called.

    Attributes:
        hierarchy: where its groups are, below the mount.
        limit: bytes, or a word for none.
        usage: bytes of all its processes, page cache included.
        prefix: of the sums over the groups below, in memory.stat.
    """

    hierarchy: str
    limit: str
    usage: str
    prefix: str = ""


_SECOND = _Version("", "memory.max", "memory.current")
_FIRST = _Version("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_")


def room_in_groups(
    membership: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """Bytes that the tightest of this process's groups has left, page cache counted as free.

    The group itself and all those it lies in are looked at. In a container the path may be that of the
    machine outside, of which nothing is to be seen inside but the mount: what is not there has no limit.

    Args:
        membership: the kernel's list of the process's groups.
        mount: where the groups are to be seen.

    Returns:
        None without a limit, and on other systems.
    """
    rooms = []
    for version, group in _groups(membership):
        for folder in _and_outwards(group):
            room = _room(mount / version.hierarchy / folder, version)
            if room is not None:
                rooms.append(room)
    return min(rooms, default=None)


def _groups(membership: Path) -> Iterator[tuple[_Version, PurePosixPath]]:
    for line in (_text(membership) or "").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            yield _SECOND, PurePosixPath(path)
        elif "memory" in controllers.split(","):
            yield _FIRST, PurePosixPath(path)


def _and_outwards(group: PurePosixPath) -> Iterator[str]:
    for folder in (group, *group.parents):
        yield str(folder).lstrip("/")


def _room(folder: Path, version: _Version) -> int | None:
    limit, usage = _number(folder / version.limit), _number(folder / version.usage)
    if limit is None or usage is None:
        return None
    reclaimable = 0
    for line in (_text(folder / "memory.stat") or "").splitlines():
        name, _, value = line.partition(" ")
        if name.removeprefix(version.prefix) in _RECLAIMABLE and name.startswith(version.prefix):
            reclaimable += int(value)
    return max(0, limit - max(0, usage - reclaimable))


def _number(path: Path) -> int | None:
    text = _text(path) or ""
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
