"""Our tests of the library under AddressSanitizer and UndefinedBehaviorSanitizer, with asserts on.

llama.cpp's options reach libllama alone and ggml's own reach ggml: both are given. CMake's release flags
turn asserts off, and come after CMAKE_CXX_FLAGS: so they are replaced. OpenMP is off, since its runtime is
not instrumented.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from checks import report
from checks.builds import LIBRARY_ONLY, Build, Kind, library_folder
from provision.commands import output_of
from provision.failure import ProvisionError
from provision.progress import Progress

TESTS = (
    *("test_parity*.py", "test_schedule*.py", "test_library_refusals*.py", "test_modes*.py"),
    *("test_windows*.py", "test_streaming*.py", "test_backend_context_plan*.py"),
)
"""What is run: the tests that compute with the library in their own process, under every kind of plan."""

_FLAGS = "-O1 -g1 -UNDEBUG"
SANITIZED = Kind(
    "sanitized",
    (
        *LIBRARY_ONLY,
        "-DCMAKE_BUILD_TYPE=RelWithDebInfo",
        f"-DCMAKE_C_FLAGS_RELWITHDEBINFO={_FLAGS}",
        f"-DCMAKE_CXX_FLAGS_RELWITHDEBINFO={_FLAGS}",
        *("-DLLAMA_SANITIZE_ADDRESS=ON", "-DLLAMA_SANITIZE_UNDEFINED=ON"),
        *("-DGGML_SANITIZE_ADDRESS=ON", "-DGGML_SANITIZE_UNDEFINED=ON"),
        *("-DGGML_OPENMP=OFF", "-DGGML_METAL=OFF"),
    ),
)

_FINDING = re.compile(r"runtime error: |ERROR: AddressSanitizer")
_PROCESS = re.compile(r"^==\d+==\s*")
_FRAME = re.compile(r"#\d+ 0x\w+ in (.+ \S*llama\.cpp/\S+)$")
_FRAMES = 4  # innermost ones of llama.cpp's that are told


@dataclass(frozen=True)
class ModuleRun:
    """What came of one test file.

    Attributes:
        name: the file's.
        exit_code: pytest's; negative where a signal ended it.
        summary: its last line, which counts the tests.
        findings: what the sanitizers found, with where, and how often each came.
    """

    name: str
    exit_code: int
    summary: str
    findings: Counter[str]


def run_sanitized(build: Build, tests: Path, jobs: int | None) -> list[ModuleRun]:
    """Build the library with both sanitizers, and run each of the test files on it, in a process of its own.

    Args:
        build: of kind `SANITIZED`.
        tests: the folder of our tests.
        jobs: compilers at a time.

    Raises:
        ProvisionError: a compiler fails, the runtimes are not there, or the library is not instrumented.
    """
    library = library_folder(build, jobs)
    _require_instrumented(library)
    modules = sorted({path for pattern in TESTS for path in tests.glob(pattern)})
    preloaded = ":".join(_runtimes())
    runs = []
    with Progress("Running our tests under the sanitizers") as progress:
        for done, path in enumerate(modules):
            progress.detail = path.name
            runs.append(run_module(path, library, preloaded))
            progress.update(done + 1, len(modules))
    return runs


def run_module(path: Path, library: Path, preloaded: str = "") -> ModuleRun:
    """Run one test file.

    Args:
        path: the file, in the folder of tests.
        library: folder of the library that it computes with.
        preloaded: the sanitizers' runtimes.
    """
    with TemporaryDirectory(prefix="sanitizers-") as temporary:
        reports = Path(temporary) / "report"
        environment = {
            **os.environ,
            "LD_PRELOAD": preloaded,
            # Python itself leaves memory behind at its end, so leaks are not looked for.
            "ASAN_OPTIONS": f"detect_leaks=0:log_path={reports}",
            "UBSAN_OPTIONS": f"print_stacktrace=1:log_path={reports}",
            "LLAMA_CPP_LIB_PATH": str(library),
            "GGML_NO_BACKTRACE": "1",
        }
        # Without pytest's handler of faults, so that AddressSanitizer sees where they happen.
        plugins = ["-p", "no:cacheprovider", "-p", "no:faulthandler"]
        finished = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "--color=no", *plugins, str(path)],
            cwd=path.parents[1],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        texts = [file.read_text("utf-8", "replace") for file in Path(temporary).glob("report*")]
    said = [line.strip() for line in finished.stdout.splitlines() if line.strip()]
    found = Counter(finding for text in texts for finding in findings(text))
    return ModuleRun(path.name, finished.returncode, said[-1] if said else "", found)


def findings(text: str) -> list[str]:
    """What a sanitizer's report says was found, each with the innermost places of llama.cpp's."""
    found: list[list[str]] = []
    for line in text.splitlines():
        if _FINDING.search(line):
            found.append([_PROCESS.sub("", line.strip()).partition(" (pc ")[0]])
        elif found and (frame := _FRAME.search(line)) and len(found[-1]) <= _FRAMES:
            found[-1].append(frame[1])
    return [" < ".join(parts) for parts in found]


def section(runs: Sequence[ModuleRun]) -> str:
    """The report: a row for each test file, and what was found."""
    found = sum((run.findings for run in runs), Counter[str]())
    failed = [run.name for run in runs if run.exit_code != 0]
    rows = [
        (
            run.name,
            f"ended by signal {-run.exit_code}" if run.exit_code < 0 else run.summary,
            str(run.findings.total()),
        )
        for run in runs
    ]
    parts = [
        report.table(("test file", "tests", "found by the sanitizers"), rows),
        f"Failed: {', '.join(failed) or 'none'}. Found by the sanitizers: {'' if found else 'nothing.'}",
        "\n".join(f"* {count} times: `{finding}`" for finding, count in found.most_common()),
    ]
    return "\n\n".join(part for part in parts if part)


def _runtimes() -> list[str]:
    """The sanitizers' shared libraries, which have to be there before Python's own memory functions.

    Raises:
        ProvisionError: this is no Linux with GCC.
    """
    paths = []
    for name in ("libasan.so", "libubsan.so"):
        said = (output_of(["c++", f"-print-file-name={name}"]) or "").strip()
        if not Path(said).is_absolute():
            raise ProvisionError(f"{name} was not found; this check needs Linux and GCC (apt install g++).")
        paths.append(said)
    return paths


def _require_instrumented(library: Path) -> None:
    for name in ("libllama.so", "libggml-base.so", "libggml-cpu.so"):
        symbols = output_of(["nm", "-uD", library / name]) or ""
        for what in ("__asan_init", "__ubsan_handle", "__assert_fail"):
            if what not in symbols:
                raise ProvisionError(f"{name} is without {what}; delete {library.parent} and run again.")
