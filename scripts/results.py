"""Measures what docs/results.md says, and writes its tables: `scripts/results.py [NAME...]`.

It takes hours on two cores: run it in the background. Each command keeps what it has measured, so that
stopping this loses nothing and starting it again goes on. `--page` alone writes the tables of what there is.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]

from benchmark.page import Section, write_section  # noqa: E402
from evidence.page import sections  # noqa: E402
from evidence.runs import RUNS, TEXT, Run  # noqa: E402
from provision.cache import cache_dir  # noqa: E402
from provision.demo_model import model_path  # noqa: E402
from provision.failure import INTERRUPTED, ProvisionError, run_main  # noqa: E402
from ropewalk.evaluation.results import write_whole  # noqa: E402
from ropewalk.evaluation.results_file import read_results  # noqa: E402
from ropewalk.evaluation.shipped_text import shipped_text  # noqa: E402

PAGE, FOLDER = _ROOT / "docs" / "results.md", _ROOT / "docs" / "results"
_BAD_INPUT = 3
_SECTIONS = {"methods": ("passkey-8k", "passkey-12k", "perplexity")}


def main() -> int:
    """Measure what is named, or all, and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [run.name for run in RUNS]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)} (default: all)")
    parser.add_argument("--model", type=Path, default=model_path(), help="default: the demo model")
    parser.add_argument("--page", action="store_true", help="only write the page")
    given = parser.parse_args()
    unknown = [name for name in given.names if name not in names]
    if unknown:
        parser.error(f"there is no {unknown[0]!r} to measure: choose from {', '.join(names)}")
    if not given.page:
        work = _prepared(given.model)
        for run in RUNS:
            if not given.names or run.name in given.names:
                _measure(run, given.model.name, work)
                _write_page()
    _write_page()
    return 0


def _prepared(model: Path) -> Path:
    """A folder with all that the commands name, so that they are the same wherever they run."""
    if not model.is_file():
        raise ProvisionError(f"{model} is missing: run ./scripts/setup --model", _BAD_INPUT)
    work = cache_dir() / "results"
    work.mkdir(parents=True, exist_ok=True)
    FOLDER.mkdir(exist_ok=True)
    write_whole(work / TEXT, shipped_text().encode())
    for link, target in ((work / model.name, model.resolve()), (work / FOLDER.name, FOLDER)):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
    return work


def _measure(run: Run, model: str, work: Path) -> None:
    """Begin, or go on with, one of the runs; nothing where it is done.

    Raises:
        KeyboardInterrupt: it was interrupted; its file has what was measured.
        ProvisionError: it failed.
    """
    file = FOLDER / f"{run.name}.json"
    if file.exists() and read_results(file).complete:
        return
    where = ("--resume" if file.exists() else "--json", f"{FOLDER.name}/{file.name}")
    command = [sys.executable, "-m", "ropewalk", *run.command(model, *where)]
    code = subprocess.run(command, cwd=work, check=False).returncode
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    if code:
        raise ProvisionError(f"{run.shown} failed with {code}: its last lines say why", code)


def _write_page() -> None:
    for name, text in sections(FOLDER, _SECTIONS):
        write_section(PAGE, Section(name, "scripts/results.py --page", text))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the shell started it ignored
    sys.exit(run_main(main))
