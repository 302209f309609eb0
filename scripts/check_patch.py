"""What is checked whenever the patch changes: `./scripts/check_patch --help`.

Each check's result goes to stdout and into docs/checks.md, in place of its last one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from checks import architectures, report, rope_symbols, sanitizers, upstream_tests
from checks.builds import TESTS, Build, Kind, build_tools, configure, library_folder
from checks.trees import Tree, ensure_tree
from provision.demo_model import model_path
from provision.failure import FAILED, run_main

_ROOT = Path(__file__).resolve().parents[1]
_PAGE = _ROOT / "docs" / "checks.md"


@dataclass(frozen=True)
class Run:
    """What a check is given.

    Attributes:
        patches: a `patches/` folder.
        tree: llama.cpp with them.
        jobs: compilers at a time; None: as cores and memory allow.
    """

    patches: Path
    tree: Tree
    jobs: int | None

    def build(self, kind: Kind) -> Build:
        """A build of the patched tree, configured."""
        return configure(self.tree, kind, build_tools(self.tree))

    def unpatched_build(self, kind: Kind) -> Build:
        """A build of llama.cpp as upstream has it, configured."""
        tree = ensure_tree(self.patches, patched=False)
        return configure(tree, kind, build_tools(tree))


@dataclass(frozen=True)
class Result:
    """What came of a check.

    Attributes:
        text: Markdown.
        passed: whether everything was as it must be.
    """

    text: str
    passed: bool


def check_symbols(run: Run) -> Result:
    """No model object refers to a rope function of ggml past the members."""
    build = run.build(TESTS)
    objects = rope_symbols.object_files(build, run.jobs)
    sources = rope_symbols.model_sources(build)
    wrong = rope_symbols.problems(objects, sources)
    return Result(rope_symbols.section(objects, sources, wrong), not wrong)


def check_architectures(run: Run) -> Result:
    """A random model of every architecture under every kind of plan."""
    build = run.build(TESTS)
    models = architectures.write_models(build, run.jobs)
    unpatched = library_folder(run.unpatched_build(TESTS), run.jobs)
    trials = architectures.try_models(models, build.programs, unpatched)
    wrong = any(architectures.problems(trial) for trial in trials.values())
    return Result(f"{architectures.NOTE}\n\n{architectures.section(trials)}", not wrong)


def check_sanitizers(run: Run) -> Result:
    """Our tests of the library under AddressSanitizer and UndefinedBehaviorSanitizer."""
    build = run.build(sanitizers.SANITIZED)
    runs = sanitizers.run_sanitized(build, _ROOT / "tests", run.jobs)
    return Result(sanitizers.section(runs), all(one.exit_code == 0 and not one.findings for one in runs))


def check_upstream(run: Run) -> Result:
    """llama.cpp's own tests that need no download."""
    model = model_path() if model_path().exists() else None
    build = run.build(TESTS)
    upstream_tests.compile_tests(build, upstream_tests.programs(build), run.jobs)
    tests = upstream_tests.listed_tests(build, model)
    patched = upstream_tests.run_tests(tests, "Running upstream's tests", model)
    unpatched = {}
    if any(not ending.passed for ending in patched.values()):
        stock = run.unpatched_build(TESTS)
        upstream_tests.compile_tests(stock, upstream_tests.programs(stock), run.jobs)
        failed = [
            test
            for test in upstream_tests.listed_tests(stock, model)
            if test.name in patched and not patched[test.name].passed
        ]
        unpatched = upstream_tests.run_tests(failed, "Running those that failed, unpatched", model)
    worse = upstream_tests.regressions(patched, unpatched)
    return Result(upstream_tests.section(tests, patched, unpatched), not worse)


CHECKS: dict[str, Callable[[Run], Result]] = {
    "symbols": check_symbols,
    "architectures": check_architectures,
    "sanitizers": check_sanitizers,
    "upstream": check_upstream,
}


def main() -> int:
    """Run the checks that are named."""
    parser = argparse.ArgumentParser(
        prog="./scripts/check_patch",
        description="Check the patch beyond what the tests do; see docs/checks.md.",
    )
    parser.add_argument("checks", metavar="CHECK", nargs="*", help=f"{', '.join(CHECKS)} (default: all)")
    parser.add_argument("--jobs", type=int, help="compilers at a time (default: as cores and memory allow)")
    parser.add_argument(
        "--patches",
        type=Path,
        default=_ROOT / "patches",
        help="the patches to check (default: this checkout's)",
    )
    parser.add_argument("--page", type=Path, default=_PAGE, help="where results go (default: docs/checks.md)")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.checks if name not in CHECKS]:
        parser.error(f"there is no check {unknown[0]!r}; choose from {', '.join(CHECKS)}")
    run = Run(arguments.patches, ensure_tree(arguments.patches, patched=True), arguments.jobs)
    passed = True
    for name in arguments.checks or CHECKS:
        begin = report.Moment.now()
        result = CHECKS[name](run)
        said = report.heading(run.tree, begin, f"./scripts/check_patch {name}")
        text = f"{said}\n\n{result.text}"
        report.put(arguments.page, name, text)
        print(
            f"# {name}: {'as it must be' if result.passed else 'NOT as it must be'}\n\n{text}\n", flush=True
        )
        passed = passed and result.passed
    return 0 if passed else FAILED


if __name__ == "__main__":
    sys.exit(run_main(main))
