"""The build tools, in an environment of their own: pip, scikit-build-core, hatchling, patch-ng, CMake, Ninja.

They live in the cache, apart from the project's environment, so that an interrupted build can go on with
the very tools it began with, and so that nothing of them is left in the person's environment.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from provision.commands import output_of, run_logged
from provision.failure import ProvisionError
from provision.progress import Progress

# pip from 24.1 on can report a download's progress in a form that programs read.
_ALWAYS = ("pip>=24.1", "scikit-build-core[pyproject]>=0.10", "patch-ng>=1.18")
PROJECT_BUILD = ("hatchling>=1.27", "editables>=0.5")
"""What builds ropewalk itself: pyproject.toml's `build-system.requires` (a test compares the two)."""

_CMAKE_MINIMUM = (3, 21)
_PIP_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")
_PIP_COLLECTING = re.compile(r"Collecting ([\w.-]+)")
_NO_PIP = (
    "{python} cannot make a virtual environment with pip; install its venv module "
    "(Debian, Ubuntu: apt install python3-venv; Fedora: dnf install python3-pip) and run again."
)


@dataclass(frozen=True)
class Tools:
    """The build tools' environment.

    Attributes:
        folder: where it lies.
        log: where the output of what is done with it goes.
    """

    folder: Path
    log: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def scripts(self) -> Path:
        """Where its programs lie."""
        return self.folder / "bin"


def ensure_tools(cache: Path, log: Path) -> Tools:
    """The build tools, made where missing, incomplete or broken. The caller holds the cache's lock.

    Raises:
        ProvisionError: they cannot be installed.
    """
    requirements = (*_ALWAYS, *PROJECT_BUILD, *_missing_programs())
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256("\n".join(requirements).encode()).hexdigest()[:8]
    tools = Tools(cache / f"tools-{version}-{digest}", log)
    complete = tools.folder / "complete"
    if complete.exists() and output_of([tools.python, "-c", ""]) is not None:
        return tools
    with Progress("Installing the build tools", expected_seconds=20):
        make_environment(tools.folder, log)
        command: list[str | Path] = [tools.python, "-m", "pip", "install", "--upgrade", *requirements]
        run_logged(command, log, "Installing the build tools")
    complete.touch()
    return tools


def make_environment(folder: Path, log: Path) -> None:
    """Make a fresh virtual environment with pip, in place of whatever `folder` is.

    Raises:
        ProvisionError: this Python has no venv module with pip.
    """
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    try:
        run_logged([sys.executable, "-m", "venv", "--clear", folder], log, "Making a virtual environment")
    except ProvisionError as error:
        if output_of([sys.executable, "-c", "import ensurepip, venv"]) is None:
            raise ProvisionError(_NO_PIP.format(python=sys.executable)) from error
        raise


def pip_install(
    tools: Tools, python: Path, arguments: list[str], label: str, *, seconds: float, folder: Path
) -> None:
    """Install into another interpreter's environment with the tools' pip, showing which package it is at.

    Args:
        tools: whose pip does it.
        python: the interpreter of the environment.
        arguments: pip install's.
        label: the step, for the person.
        seconds: how long it usually takes.
        folder: where pip runs.

    Raises:
        ProvisionError: pip cannot do it.
    """
    with Progress(label, seconds) as progress:

        def on_line(line: str) -> None:
            if match := _PIP_COLLECTING.match(line):
                progress.detail = match[1]

        command: list[str | Path] = [tools.python, "-m", "pip", "--python", python, "install", *arguments]
        run_logged(command, tools.log, label, on_line=on_line, folder=folder)


@contextmanager
def download(
    tools: Tools, requirement: str, folder: Path, label: str, source: bool = False
) -> Iterator[Path]:
    """Download one distribution by name, without its dependencies, for as long as the context lasts.

    Args:
        tools: whose pip does it.
        requirement: `name==version`.
        folder: where the temporary folder is made, so that the file can be renamed into place.
        label: the step, for the person.
        source: whether the source distribution is wanted and not a wheel.

    Yields:
        The downloaded file; whatever is left of it is removed afterwards.

    Raises:
        ProvisionError: the index does not have it or cannot be reached.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = requirement.partition("==")[0]
    kind = ["--no-binary", name, "--no-build-isolation"] if source else ["--only-binary", name]
    with TemporaryDirectory(prefix=".download-", dir=folder) as temporary:
        with Progress(label, expected_seconds=30) as progress:

            def on_line(line: str) -> None:
                if match := _PIP_PROGRESS.fullmatch(line):
                    progress.update(int(match[1]), int(match[2]))

            command: list[str | Path] = [
                *(tools.python, "-m", "pip", "download", "--no-deps", "--progress-bar", "raw"),
                *("--dest", temporary, *kind, requirement),
            ]
            run_logged(command, tools.log, label, on_line=on_line)
        files = list(Path(temporary).iterdir())
        if len(files) != 1:
            raise ProvisionError(
                f"pip download {requirement} gave {len(files)} files instead of one; see {tools.log}."
            )
        yield files[0]


def _missing_programs() -> list[str]:
    """CMake and Ninja as requirements, those of them that this machine lacks or has too old."""
    missing = []
    cmake = output_of(["cmake", "--version"]) if shutil.which("cmake") else None
    found = re.search(r"version (\d+)\.(\d+)", cmake or "")
    if found is None or (int(found[1]), int(found[2])) < _CMAKE_MINIMUM:
        missing.append("cmake>=3.21")
    if shutil.which("ninja") is None or output_of(["ninja", "--version"]) is None:
        missing.append("ninja>=1.11")
    return missing
