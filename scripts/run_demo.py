"""Runs the demo; an interruption ends in a sentence even while the demo is still being loaded."""

from __future__ import annotations

import sys
from importlib import import_module

from provision.failure import run_main


def main() -> int:
    """Load the demo and run it."""
    code: int = import_module("demo").run()
    return code


if __name__ == "__main__":
    sys.exit(run_main(main))
