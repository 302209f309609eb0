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
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from checks.builds import LIBRARY_ONLY, Build, Kind, library_folder
from provision.commands import output_of
from provision.failure import ProvisionError

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


@dataclass(frozen=True)
class SanitizedRun:
    """What came of it.

    Attributes:
        modules: test files that were run.
        summary: pytest's last line.
        exit_code: pytest's.
        findings: the sanitizers' first lines, with how often each came.
    """

    modules: tuple[str, ...]
    summary: str
    exit_code: int
    findings: Counter[str]


def run_sanitized(build: Build, tests: Path, jobs: int | None) -> SanitizedRun:
    """Build the library with both sanitizers, and run the tests on it.

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
    with TemporaryDirectory(prefix="sanitizers-") as temporary:
        reports = Path(temporary) / "report"
        environment = {
            **os.environ,
            "LD_PRELOAD": ":".join(_runtimes()),
            # Python itself leaves memory behind at its end, so leaks are not looked for.
            "ASAN_OPTIONS": f"detect_leaks=0:log_path={reports}",
            "UBSAN_OPTIONS": f"print_stacktrace=1:log_path={reports}",
            "LLAMA_CPP_LIB_PATH": str(library),
            "GGML_NO_BACKTRACE": "1",
        }
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, modules)]
        lines: list[str] = []
        with subprocess.Popen(
            command,
            cwd=tests.parent,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                print(line, end="", file=sys.stderr, flush=True)
                lines.append(line.strip())
        texts = [path.read_text("utf-8", "replace") for path in Path(temporary).glob("report*")]
        found = Counter(finding for text in texts for finding in findings(text))
    said = [line for line in lines if line]
    return SanitizedRun(
        modules=tuple(path.name for path in modules),
        summary=said[-1] if said else "",
        exit_code=process.returncode,
        findings=found,
    )


def findings(report: str) -> list[str]:
    """The lines of a sanitizer's report that say what was found, without process numbers."""
    return [_PROCESS.sub("", line.strip()) for line in report.splitlines() if _FINDING.search(line)]


def section(run: SanitizedRun) -> str:
    """The report."""
    lines = [
        f"{len(run.modules)} test files ({', '.join(run.modules)}): {run.summary}.",
        f"Found by the sanitizers: {'nothing.' if not run.findings else ''}",
        "\n".join(f"* {count} times: `{finding}`" for finding, count in run.findings.most_common()),
    ]
    return "\n\n".join(line for line in lines if line)


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
