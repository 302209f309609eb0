"""llama.cpp's own tests, those that need no download; what fails is tried on the unpatched tree too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from checks import report
from checks.builds import Build, compile_targets
from provision.commands import output_of
from provision.failure import ProvisionError
from provision.progress import Progress

DOWNLOAD_FIXTURE = "test-download-model"
"""What upstream's CMake calls the fixture that fetches a small model."""

MODEL_LABEL = "model"
"""CTest's label of tests that take a model file: from $LLAMACPP_TEST_MODELFILE, or by downloading."""

UNREGISTERED = (
    ("test-backend-ops", ("test", "-b", "CPU")),
    ("test-llama-archs", ("-s", "1")),
)
"""Tests that CTest does not list, with their arguments: every ggml operation, every architecture."""

_TAIL_LINES = 12


@dataclass(frozen=True)
class UpstreamTest:
    """One of CTest's tests.

    Attributes:
        name: CTest's.
        command: the program and its arguments.
        folder: where it runs.
        needs_model: whether it takes a model file that upstream would download.
        skip: why it is not run; "" if it is.
    """

    name: str
    command: tuple[str, ...]
    folder: Path
    needs_model: bool = False
    skip: str = ""


@dataclass(frozen=True)
class Ending:
    """How a test ended.

    Attributes:
        passed: whether its exit code was 0.
        seconds: how long it took.
        tail: its last lines, for one that failed.
    """

    passed: bool
    seconds: float
    tail: str


def programs(build: Build) -> list[str]:
    """The test programs that can be compiled."""
    return [name for name in build.targets() if name.startswith("test-")]


def compile_tests(build: Build, names: Sequence[str], jobs: int | None) -> None:
    """Compile test programs.

    Raises:
        ProvisionError: a compiler fails.
    """
    compile_targets(build, names, "upstream's tests", jobs)


def listed_tests(build: Build, model: Path | None) -> list[UpstreamTest]:
    """CTest's tests and the unregistered ones, each with the reason where it is not run.

    Args:
        build: compiled.
        model: a small real model to give to those that would download one; None: they are not run.

    Raises:
        ProvisionError: CTest does not list them.
    """
    said = output_of([build.program("ctest"), "--test-dir", build.folder, "--show-only=json-v1"])
    if said is None:
        raise ProvisionError(
            f"CTest cannot list the tests in {build.folder}; delete that folder and run again."
        )
    tests = [read_test(entry, build.folder / "bin", model) for entry in json.loads(said)["tests"]]
    folder = build.programs
    own = [UpstreamTest(name, (str(folder / name), *rest), folder) for name, rest in UNREGISTERED]
    return [*tests, *own]


def read_test(entry: Mapping[str, Any], default_folder: Path, model: Path | None) -> UpstreamTest:
    """One of CTest's entries (`--show-only=json-v1`), and whether it is run.

    What needs a network is told by what CMake says of it: the fixture that downloads, the label of tests that
    take a model, an address among the arguments.
    """
    name = str(entry["name"])
    command = tuple(str(part) for part in entry.get("command", ()))
    properties = {prop["name"]: prop["value"] for prop in entry.get("properties", ())}
    folder = default_folder / str(properties.get("WORKING_DIRECTORY", "."))  # upstream says "." of most
    downloads = DOWNLOAD_FIXTURE in properties.get("FIXTURES_SETUP", ())
    from_fixture = DOWNLOAD_FIXTURE in properties.get("FIXTURES_REQUIRED", ())
    needs_model = from_fixture or MODEL_LABEL in properties.get("LABELS", ())
    skip = ""
    if not command:
        skip = "was not built"
    elif downloads:
        skip = "is the download of a model"
    elif any("://" in part for part in command):
        skip = "clones a repository"
    elif needs_model and model is None:
        skip = "needs a model: ./scripts/setup --model fetches one to give it"
    if from_fixture and model is not None and "-m" in command:
        place = command.index("-m") + 1
        command = (*command[:place], str(model), *command[place + 1 :])
    return UpstreamTest(name, command, folder, needs_model, skip)


def run_tests(tests: Sequence[UpstreamTest], label: str, model: Path | None) -> dict[str, Ending]:
    """Run those that are not skipped, in CTest's order; each's ending by name."""
    endings: dict[str, Ending] = {}
    wanted = [test for test in tests if not test.skip]
    with Progress(label) as progress:
        for done, test in enumerate(wanted):
            progress.detail = test.name
            endings[test.name] = run_test(test, model)
            progress.update(done + 1, len(wanted))
    return endings


def run_test(test: UpstreamTest, model: Path | None) -> Ending:
    """Run one."""
    # One of them runs `python3`: ours has what it imports.
    search = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    environment = {**os.environ, "GGML_NO_BACKTRACE": "1", "PATH": os.pathsep.join(search)}
    if test.needs_model and model is not None:
        environment["LLAMACPP_TEST_MODELFILE"] = str(model)
    test.folder.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    finished = subprocess.run(
        test.command,
        cwd=test.folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    tail = "\n".join(finished.stdout.splitlines()[-_TAIL_LINES:])
    return Ending(finished.returncode == 0, time.monotonic() - start, tail)


def regressions(patched: Mapping[str, Ending], unpatched: Mapping[str, Ending]) -> list[str]:
    """Tests that fail on the patched tree and do not on the unpatched one."""
    failed = [name for name, ending in patched.items() if not ending.passed]
    return [name for name in failed if name not in unpatched or unpatched[name].passed]


def section(
    tests: Sequence[UpstreamTest], patched: Mapping[str, Ending], unpatched: Mapping[str, Ending]
) -> str:
    """The report: counts, and a row for each test."""
    worse = regressions(patched, unpatched)
    passed = sum(ending.passed for ending in patched.values())
    skipped = sum(bool(test.skip) for test in tests)
    parts = [
        f"{len(tests)} tests: {passed} passed, {len(patched) - passed} failed, {skipped} skipped. "
        f"Failed here and passed on the unpatched tree: {', '.join(worse) or 'none'}.",
        report.table(
            ("test", "patched", "unpatched", "seconds", ""),
            [_row(test, patched.get(test.name), unpatched.get(test.name)) for test in tests],
        ),
    ]
    for name, ending in patched.items():
        if not ending.passed:
            parts.append(f"The last lines of `{name}` on the patched tree:\n\n```\n{ending.tail}\n```")
    return "\n\n".join(parts)


def _row(test: UpstreamTest, patched: Ending | None, unpatched: Ending | None) -> tuple[str, ...]:
    note = test.skip or ("with the demo model" if test.needs_model else "")
    seconds = f"{patched.seconds:.1f}" if patched else ""
    return test.name, "skipped" if test.skip else _word(patched), _word(unpatched), seconds, note


def _word(ending: Ending | None) -> str:
    if ending is None:
        return ""
    return "passed" if ending.passed else "failed"
