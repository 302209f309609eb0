"""Upstream's own converter, as the pinned source has it: what ours is compared with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from upstream_archive import upstream_folder

_DRIVER = """
import json, runpy, sys
script, *commands = json.load(sys.stdin)
sys.path[0] = script.rpartition("/")[0]
for command in commands:
    sys.argv = [script, *command]
    runpy.run_path(script, run_name="__main__")
"""
"""Runs the script once for each command line, as `python SCRIPT ...` would; torch is imported once."""


@dataclass(frozen=True)
class UpstreamRun:
    """Upstream's converter at work in a process of its own.

    Attributes:
        process: the process.
        log: what it says.
    """

    process: subprocess.Popen[str]
    log: Path

    def wait(self) -> None:
        """Wait for all files.

        Raises:
            AssertionError: the converter failed; with what it said last.
        """
        code = self.process.wait()
        assert code == 0, self.log.read_text(encoding="utf-8", errors="replace")[-3000:]


def start_upstream(commands: Sequence[Sequence[str]], log: Path) -> UpstreamRun:
    """Start `convert_hf_to_gguf.py` for each list of arguments, one after the other."""
    script = upstream_folder() / "convert_hf_to_gguf.py"
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "NO_LOCAL_GGUF"))
    }
    with log.open("w", encoding="utf-8") as out, tempfile.TemporaryFile("w+", encoding="utf-8") as request:
        json.dump([str(script), *map(list, commands)], request)
        request.seek(0)
        process = subprocess.Popen(
            [sys.executable, "-c", _DRIVER],
            stdin=request,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**environment, "HF_HUB_OFFLINE": "1"},
            text=True,
        )
    return UpstreamRun(process, log)
