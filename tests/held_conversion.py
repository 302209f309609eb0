"""A conversion's process that stops in the middle: upstream's converter itself, held after the header.

`converter` is given this file instead of `converter_child.py`. It goes on once the file named in the
environment is there, or never.
"""

from __future__ import annotations

import os
import runpy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

GO_ON = "ROPEWALK_TESTS_GO_ON"
"""The variable that names the file."""

_CHILD = Path(__file__).parent.parent / "converters" / "ropewalk_convert" / "converter_child.py"

Report = Callable[[dict[str, Any]], None]


def main(request: dict[str, Any], report: Report) -> None:
    """Convert, and wait after `{"stage": "header"}` is reported."""

    def report_and_wait(message: dict[str, Any]) -> None:
        report(message)
        if message.get("stage") == "header":
            while not Path(os.environ[GO_ON]).exists():
                time.sleep(0.01)

    runpy.run_path(str(_CHILD))["main"](request, report_and_wait)
