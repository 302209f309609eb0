"""Where results come from: the machine and the versions; nothing that names a person or a network."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

_CPU_LINES = ("model name", "Model", "Hardware")  # of /proc/cpuinfo; ARM has no "model name"


def machine() -> dict[str, str | int]:
    """What kind of machine this is: system, processor, logical processors, versions; no host name."""
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "processor": _processor(),
        "logical_processors": os.cpu_count() or 1,
        "python": platform.python_version(),
        "llama_cpp_python": _version("llama-cpp-python"),
    }


def machine_words(facts: dict[str, str | int]) -> str:
    """A machine of a results file on one line."""
    parts = [str(facts[name]) for name in ("processor", "architecture", "system") if facts.get(name)]
    if "logical_processors" in facts:
        parts.insert(1, f"{facts['logical_processors']} logical processors")
    if "llama_cpp_python" in facts:
        parts.append(f"llama-cpp-python {facts['llama_cpp_python']}")
    return ", ".join(parts) or "unknown"


def ropewalk_version() -> str:
    """This package's version."""
    return _version("ropewalk")


def now() -> str:
    """Date, time and offset from UTC, to the second, as ISO 8601 writes them."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "unknown"


def _processor() -> str:
    """The processor's name as its maker writes it, or the architecture's."""
    if platform.system() == "Darwin":
        return _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.machine()
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine()
    found = dict(reversed([_field(line) for line in text.splitlines() if ":" in line]))
    return next((found[name] for name in _CPU_LINES if found.get(name)), platform.machine())


def _field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip(), " ".join(value.split())


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
