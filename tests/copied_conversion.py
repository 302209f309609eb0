"""Copies a converted file: stands where a conversion's process stands, where that is not the point."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

CONVERTED = "ROPEWALK_TESTS_CONVERTED"
"""The variable that names the file."""


def main(request: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> None:
    """Report what a conversion reports, with the file written in between."""
    report({"stage": "reading"})
    content = Path(os.environ[CONVERTED]).read_bytes()
    Path(request["out"]).write_bytes(content)
    report({"stage": "header"})
    report({"stage": "writing", "done": len(content), "total": len(content)})
    report({"stage": "done"})
