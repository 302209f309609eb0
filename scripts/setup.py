"""`./scripts/setup [--model] [--backend NAME] [--no-rpc] [EXTRA...]`: see `./scripts/setup --help`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from provision.backends import CHOICES
from provision.demo_model import ensure_model
from provision.environment import Checkout, set_up
from provision.failure import run_main

_DESCRIPTION = """Make the virtual environment .venv with ropewalk and the patched llama.cpp in it.
What is there and right is reused; what changed in pyproject.toml or patches/ is built again, what is
missing in .venv is put back. $PYTHON, where set, is the Python to have in .venv (3.10 or newer)."""


def main() -> int:
    """Set this checkout up as the arguments say."""
    parser = argparse.ArgumentParser(prog="./scripts/setup", description=_DESCRIPTION)
    parser.add_argument(
        "extras", metavar="EXTRA", nargs="*", help="optional dependencies: convert, dev, oracle, plot"
    )
    parser.add_argument("--model", action="store_true", help="fetch the demo model as well")
    parser.add_argument(
        "--backend", choices=CHOICES, help="what to build llama.cpp for (default: as before, at first auto)"
    )
    parser.add_argument(
        "--rpc",
        action=argparse.BooleanOptionalAction,
        help="build it with other machines' devices (default: as before, at first with)",
    )
    parser.add_argument("--jobs", type=int, help="compilers at a time (default: as cores and memory allow)")
    arguments = parser.parse_args()
    checkout = Checkout(Path(__file__).resolve().parents[1])
    # scripts/setup runs this with $PYTHON where that is set.
    wanted = "{}.{}".format(*sys.version_info) if os.environ.get("PYTHON") else None
    set_up(checkout, arguments.extras, arguments.backend, arguments.jobs, wanted, rpc=arguments.rpc)
    if arguments.model:
        ensure_model()
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))
