"""Build the patched llama-cpp-python and install it: `scripts/build_backend.py --help`.

`./scripts/setup` does this as one of its steps; by hand it is for another environment, or for a look at the
object files.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from provision.backends import AUTO, CHOICES
from provision.failure import run_main
from provision.library import ensure_library

_ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Build and install as the arguments say."""
    parser = argparse.ArgumentParser(description="Build the patched llama-cpp-python and install it.")
    parser.add_argument(
        "--backend", choices=CHOICES, default=AUTO, help="default: auto, which looks for a GPU"
    )
    parser.add_argument(
        "--rpc",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="with other machines' devices, and the program that serves this one's (default: with)",
    )
    parser.add_argument("--jobs", type=int, help="compilers at a time (default: as cores and memory allow)")
    parser.add_argument(
        "--python", type=Path, default=_ROOT / ".venv" / "bin" / "python", help="where to (default: .venv's)"
    )
    parser.add_argument(
        "--keep-build", action="store_true", help="keep source and object files in the cache (backend/build)"
    )
    arguments = parser.parse_args()
    python = Path.cwd() / arguments.python  # not resolved: a virtual environment's interpreter is a link
    record = ensure_library(
        _ROOT / "patches",
        python,
        arguments.backend,
        arguments.jobs,
        arguments.keep_build,
        rpc=arguments.rpc,
    )
    print(f"llama-cpp-python {record['version']} for {record['backend']} is installed for {python}")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))
