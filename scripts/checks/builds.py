"""Builds of a tree, kept beside it: configured once, compiled again only where something changed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from checks.trees import Tree
from provision.backends import environment_for
from provision.cache import cache_dir
from provision.commands import output_of, run_logged
from provision.failure import ProvisionError
from provision.lock import exclusive
from provision.progress import Progress
from provision.tools import ensure_tools
from provision.wheel import default_jobs

_COMMON = ("-DCMAKE_BUILD_TYPE=Release", "-DLLAMA_OPENSSL=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF")
_STEP = re.compile(r"\[(\d+)/(\d+)\]")  # Ninja's
_TARGET = re.compile(r"^bin/([^/:]+):", re.MULTILINE)


@dataclass(frozen=True)
class Kind:
    """A way of building a tree.

    Attributes:
        name: of the folder in the tree.
        options: CMake's.
        backend: ggml's, as `provision.backends` names them.
    """

    name: str
    options: tuple[str, ...]
    backend: str = "cpu"


TESTS = Kind(
    "tests",
    (
        *("-DLLAMA_BUILD_TESTS=ON", "-DLLAMA_BUILD_TOOLS=ON", "-DLLAMA_BUILD_SERVER=ON"),
        *("-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_APP=OFF", "-DGGML_METAL=OFF"),
    ),
)
"""Upstream's tests (one links the server, another the vision code), and the library as the wheel has it."""

LIBRARY_ONLY = (
    *("-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_TOOLS=OFF", "-DLLAMA_BUILD_SERVER=OFF"),
    *("-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_COMMON=OFF", "-DLLAMA_BUILD_APP=OFF"),
)


@dataclass(frozen=True)
class Build:
    """A configured build.

    Attributes:
        tree: what is built.
        kind: how.
        tools: a folder with CMake and Ninja where the machine lacks them; None: it has its own.
    """

    tree: Tree
    kind: Kind
    tools: Path | None

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.tree.build(self.kind.name)

    @property
    def programs(self) -> Path:
        """Programs, and on all systems the shared libraries too."""
        return self.folder / "bin"

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables that CMake, Ninja and compilers run with."""
        return {
            "PATH": self.search_path,
            # With these ccache finds what another tree's build compiled.
            "CCACHE_BASEDIR": str(self.tree.folder),
            "CCACHE_NOHASHDIR": "1",
            **environment_for(self.kind.backend),
        }

    @property
    def search_path(self) -> str:
        """$PATH with CMake, CTest and Ninja on it."""
        folders = [os.environ.get("PATH", os.defpath), *([str(self.tools)] if self.tools else [])]
        return os.pathsep.join(folders)

    def targets(self) -> list[str]:
        """The names of the programs that can be compiled."""
        ninja = self.program("ninja")
        listed = output_of([ninja, "-C", self.folder, "-t", "targets", "all"])
        return sorted(set(_TARGET.findall(listed or "")))

    def program(self, name: str) -> str:
        """One of CMake's programs, or Ninja.

        Raises:
            ProvisionError: it is not there.
        """
        found = shutil.which(name, path=self.search_path)
        if found is None:
            raise ProvisionError(f"{name} was not found; install CMake and Ninja and run again.")
        return found


def build_tools(tree: Tree) -> Path:
    """The folder of CMake and Ninja where the machine lacks them, installed where missing.

    Raises:
        ProvisionError: they cannot be installed.
    """
    backend = cache_dir() / "backend"
    with exclusive(backend / "lock", "building the library"):
        return ensure_tools(backend, tree.log).scripts


def configure(tree: Tree, kind: Kind, tools: Path | None) -> Build:
    """Configure one kind of build of a tree; at once where it was configured with the same options.

    Options in $CMAKE_ARGS come after these and so win over them, as in set-up.

    Args:
        tree: what to build.
        kind: how.
        tools: what `build_tools` gave; None: the machine's own CMake, and Ninja where it has it.

    Raises:
        ProvisionError: CMake fails; the log has its output.
    """
    build = Build(tree, kind, tools)
    cached = any(shutil.which(program) for program in ("ccache", "sccache"))
    own = shlex.split(os.environ.get("CMAKE_ARGS", ""))
    options = [*_COMMON, *kind.options, f"-DGGML_CCACHE={'ON' if cached else 'OFF'}", *own]
    stamp = build.folder / "configured-with"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == "\n".join(options):
        return build
    shutil.rmtree(build.folder, ignore_errors=True)
    command: list[str | Path] = [build.program("cmake"), "-S", tree.source, "-B", build.folder]
    if shutil.which("ninja", path=build.search_path):
        command += ["-G", "Ninja"]
    with Progress(f"Configuring {kind.name}", expected_seconds=5):
        run_logged([*command, *options], tree.log, f"Configuring {kind.name}", environment=build.environment)
    stamp.write_text("\n".join(options), encoding="utf-8")
    return build


def compile_targets(build: Build, targets: Iterable[str], what: str, jobs: int | None = None) -> None:
    """Compile programs or libraries of a build.

    Args:
        build: the configured build.
        targets: names in it.
        what: they are, for the person ("upstream's tests").
        jobs: compilers at a time; default: as cores and memory allow.

    Raises:
        ProvisionError: a compiler fails; the log has its output.
    """
    count = jobs or default_jobs()
    label = f"Compiling {what} ({build.tree.folder.name}), {count} at a time"
    command: list[str | Path] = [build.program("cmake"), "--build", build.folder, "-j", str(count)]
    command += ["--target", *targets]
    with (
        exclusive(build.tree.folder / f"lock-{build.kind.name}", "compiling llama.cpp") as lock,
        Progress(label) as progress,
    ):

        def on_line(line: str) -> None:
            if match := _STEP.match(line):
                progress.update(int(match[1]), int(match[2]))

        run_logged(
            command,
            build.tree.log,
            label,
            on_line=on_line,
            environment=build.environment,
            inherit=[lock],
        )


def library_folder(build: Build, jobs: int | None = None) -> Path:
    """The folder with libllama and ggml of a build, compiled: what LLAMA_CPP_LIB_PATH takes.

    Raises:
        ProvisionError: a compiler fails.
    """
    compile_targets(build, ["llama"], "the library", jobs)
    return build.programs
