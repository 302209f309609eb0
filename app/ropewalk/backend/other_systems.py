"""How much memory is available on macOS and Windows, which the standard library does not say."""

from __future__ import annotations

import ctypes
import os
import sys


def available_elsewhere() -> int | None:
    """Bytes that are free or that the system would drop for others; None where it does not say."""
    try:
        if sys.platform == "win32":
            return _windows()
        if sys.platform == "darwin":
            return _macos()
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, AttributeError, ValueError):
        return None


class MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX of the Windows API (sysinfoapi.h)."""

    _fields_ = (
        ("dwLength", ctypes.c_uint32),
        ("dwMemoryLoad", ctypes.c_uint32),
        ("ullTotalPhys", ctypes.c_uint64),
        ("ullAvailPhys", ctypes.c_uint64),
        ("ullTotalPageFile", ctypes.c_uint64),
        ("ullAvailPageFile", ctypes.c_uint64),
        ("ullTotalVirtual", ctypes.c_uint64),
        ("ullAvailVirtual", ctypes.c_uint64),
        ("ullAvailExtendedVirtual", ctypes.c_uint64),
    )


class VmStatistics(ctypes.Structure):
    """`vm_statistics64` of Mach (mach/vm_statistics.h), in pages."""

    _pack_ = 8
    _fields_ = (
        *((name, ctypes.c_uint32) for name in ("free", "active", "inactive", "wired")),
        *((f"event_{i}", ctypes.c_uint64) for i in range(9)),
        *((name, ctypes.c_uint32) for name in ("purgeable", "speculative")),
        *((f"compressor_event_{i}", ctypes.c_uint64) for i in range(4)),
        *((name, ctypes.c_uint32) for name in ("compressor", "throttled", "external", "internal")),
        ("uncompressed_in_compressor", ctypes.c_uint64),
    )


def available_of_pages(total: int, page: int, pages: VmStatistics) -> int:
    """What is left of all memory beside anonymous, wired and compressed pages, as Activity Monitor counts."""
    used = pages.internal - pages.purgeable + pages.wired + pages.compressor
    return max(0, total - int(used) * page)


def _windows() -> int | None:
    status = MemoryStatus(dwLength=ctypes.sizeof(MemoryStatus))
    if not ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):  # type: ignore[attr-defined]
        return None
    return int(status.ullAvailPhys)


def _macos() -> int | None:
    flavor = 4  # HOST_VM_INFO64
    system = ctypes.CDLL(None)
    pages = VmStatistics()
    count = ctypes.c_uint32(ctypes.sizeof(VmStatistics) // ctypes.sizeof(ctypes.c_uint32))
    system.mach_host_self.restype = ctypes.c_uint32
    host = ctypes.c_uint32(system.mach_host_self())
    page = os.sysconf("SC_PAGE_SIZE")
    total = page * os.sysconf("SC_PHYS_PAGES")
    if system.host_statistics64(host, flavor, ctypes.byref(pages), ctypes.byref(count)):
        return total
    return available_of_pages(total, page, pages)
