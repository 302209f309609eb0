"""`ropewalk perplexity` against llama.cpp's own tool: `scripts/compare_perplexity.py --help`.

Both read the same tokens in the same windows; the outcome goes into docs/perplexity.md.
"""

from __future__ import annotations

import argparse
import datetime
import shlex
import sys
import tempfile
from pathlib import Path

from checks import report
from checks.perplexity_tool import (
    ALIKE,
    CASES,
    TOOL,
    Case,
    Compared,
    Subject,
    built_tool,
    by_ropewalk,
    by_tool,
)
from provision.demo_model import model_path
from provision.failure import FAILED, ProvisionError, run_main
from provision.progress import Progress
from ropewalk.backend.host import available_cores
from ropewalk.engine import Engine, EngineOptions
from ropewalk.evaluation.provenance import machine, machine_words
from ropewalk.evaluation.shipped_text import NAME, shipped_text

_ROOT = Path(__file__).resolve().parents[1]
_PAGE = _ROOT / "docs" / "perplexity.md"
_BAD_INPUT = 3


def main() -> int:
    """Compare, and say whether they agree."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=model_path(), help="default: the demo model")
    parser.add_argument("--tool", type=Path, help=f"a {TOOL} that is there (default: built from the source)")
    parser.add_argument("--threads", type=int, default=available_cores(), help="default: the cores there are")
    parser.add_argument("--jobs", type=int, help="compilers at a time")
    parser.add_argument("--page", action="store_true", help="put the outcome into docs/perplexity.md")
    given = parser.parse_args()
    if not given.model.is_file():
        raise ProvisionError(f"{given.model} is missing: run ./scripts/setup --model", _BAD_INPUT)
    tool = given.tool or built_tool(_ROOT / "patches", given.jobs)
    compared = _compare(tool, given.model, given.threads)
    text = _section(compared, given.model, given.threads)
    print(text)
    if given.page:
        report.put(_PAGE, "against-llama-perplexity", text)
    return FAILED if any(abs(one.difference) > ALIKE for one in compared) else 0


def _compare(tool: Path, model: Path, threads: int) -> list[Compared]:
    compared: list[Compared] = []
    with (
        Engine.start() as engine,
        tempfile.TemporaryDirectory() as folder,
        Progress("Comparing perplexities") as progress,
    ):
        described = engine.load(model, EngineOptions(n_ctx=0, vocabulary_only=True))
        subject = Subject(model, described.train_length, threads)
        for case in CASES:
            progress.detail = _name(case)
            text = Path(folder) / "text.txt"
            text.write_text(_text(engine, case), encoding="utf-8", newline="")
            theirs, ours = by_tool(tool, subject, text, case), by_ropewalk(subject, text, case)
            compared.append(Compared(case, theirs, ours))
            print(f"{_name(case)}: {theirs:.4f}, {ours:.4f}", file=sys.stderr)
            progress.update(len(compared), len(CASES))
    return compared


def _text(engine: Engine, case: Case) -> str:
    """The beginning of the novel, as long as a case needs it; the tool would drop a line break at its end."""
    whole = shipped_text()
    low, high = 0, len(whole)
    while low < high:
        middle = (low + high) // 2
        if len(engine.tokenize(whole[:middle], add_special=False)) < case.n_tokens:
            low = middle + 1
        else:
            high = middle
    return whole[:low].rstrip()


def _section(compared: list[Compared], model: Path, threads: int) -> str:
    rows = [
        (
            _name(one.case),
            f"{one.case.windows} x {one.case.context:,}",
            f"{one.tool:.4f}",
            f"{one.ours:.4f}",
            f"{one.difference:+.3%}",
        )
        for one in compared
    ]
    worst = max(abs(one.difference) for one in compared)
    table = report.table(("", "windows", TOOL, "`ropewalk perplexity`", "difference"), rows)
    command = shlex.join(["scripts/compare_perplexity.py", "--threads", str(threads), "--page"])
    return (
        f"`{command}`, {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}, {model.name}, {NAME}, "
        f"{machine_words(machine())}.\n\n{table}\n\n"
        f"The largest difference is {worst:.3%}; at most {ALIKE:.1%} is asked for."
    )


def _name(case: Case) -> str:
    how = "second halves" if case.stride is None else f"sliding, stride {case.stride}"
    plan = "" if case.method is None else f", {case.method[0]} x{case.method[1]} (`{shlex.join(case.flags)}`)"
    return f"{how}{plan}"


if __name__ == "__main__":
    sys.exit(run_main(main))
