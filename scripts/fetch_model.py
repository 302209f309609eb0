"""Fetch the demo model into the cache, where it is missing, and print its path."""

from __future__ import annotations

import sys

from provision.demo_model import ensure_model
from provision.failure import run_main


def main() -> int:
    """Fetch it."""
    print(ensure_model())
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))
