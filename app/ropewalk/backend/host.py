"""What this machine has to compute with: cores and memory that are really available to the process."""

from __future__ import annotations

import os
from pathlib import Path

from ropewalk.backend.cgroup_memory import room_in_groups
from ropewalk.backend.other_systems import available_elsewhere

_CPUS = Path("/sys/devices/system/cpu")
_CGROUP = Path("/sys/fs/cgroup")
_UNKNOWN = 2**62
"""Where the system does not say what is free, the library's own allocation decides."""


def available_cores() -> int:
    """Physical cores this process may use: by affinity, not hyperthreads, within the container's quota."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = {_siblings(cpu) for cpu in allowed}
    return max(1, min(len(cores), _cpu_quota() or len(cores)))


def _siblings(cpu: int) -> str:
    """The hyperthreads of the core that a CPU belongs to; where the system does not say, each is a core."""
    text = _read(_CPUS / f"cpu{cpu}" / "topology" / "thread_siblings_list")
    return text or str(cpu)


def _cpu_quota() -> int | None:
    """Whole CPUs that the container may use, rounded up; None without a limit."""
    quota, _, period = (_read(_CGROUP / "cpu.max") or "max").partition(" ")
    return None if quota == "max" or not period else -(-int(quota) // int(period))


def available_memory() -> int:
    """Bytes this process may fill, counting what it has filled already with data of its own.

    Page cache counts as available (Linux's estimate), and so do file-backed pages of this process: mapped
    weights must be counted as needed, loaded or not. A container's limits hold, with what others in it use.
    On macOS it is what Activity Monitor does not count as used, on Windows the available physical memory;
    what the process itself has filled is missing there.
    """
    own = _field_bytes(Path("/proc/self/status"), "RssAnon:") or 0
    system = _field_bytes(Path("/proc/meminfo"), "MemAvailable:")
    available = available_elsewhere() if system is None else system
    if available is None:
        return _UNKNOWN
    group = room_in_groups()
    return own + (available if group is None else min(available, group))


def free_memory() -> int:
    """Bytes this process may fill beyond what it has filled."""
    return available_memory() - (_field_bytes(Path("/proc/self/status"), "RssAnon:") or 0)


def resident_memory() -> int | None:
    """Bytes of this process in memory, mapped weights included; None where the system does not say."""
    return _field_bytes(Path("/proc/self/status"), "VmRSS:")


def _field_bytes(path: Path, name: str) -> int | None:
    """A `name: number kB` line of a /proc file."""
    for line in (_read(path) or "").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    return None


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
