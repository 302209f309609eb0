"""The patched library's wheel: built once for each combination of what goes into it, kept in the cache."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from provision.backends import cmake_options, environment_for, find_program
from provision.commands import note, output_of, run_logged
from provision.digests import content_digest
from provision.failure import ProvisionError
from provision.lock import exclusive
from provision.patches import patch_files
from provision.progress import Progress
from provision.tools import Tools, ensure_tools
from provision.upstream import Upstream, fetch_sdist, read_upstream, unpack

RECORD = "ropewalk_build.json"
"""The file in the wheel's `llama_cpp/` that says what it was built from."""

KEPT_WHEELS = 3
"""How many built wheels stay in the cache: those used last."""

_COMMON_OPTIONS = ("-DLLAVA_BUILD=OFF",)  # vision: its library is large and nothing here uses it
_PREPARED = "prepared"  # the file in the build folder that says which recipe's source is there
_EXPECTED_BUILD_SECONDS = 240.0  # on two cores, without ccache
# Which share of the time is over at which share of Ninja's steps: the long ones come last. Measured on the
# CPU build; a GPU's kernels are spread more evenly, and there the steps themselves are the better measure.
_TIME_AT_STEPS = (
    (0.0, 0.0),
    (0.2, 0.09),
    (0.4, 0.23),
    (0.6, 0.36),
    (0.7, 0.45),
    (0.8, 0.59),
    (0.9, 0.9),
    (1.0, 1.0),
)
_MEMORY_PER_JOB = 2 << 30  # bytes; the largest translation units are upstream's unity batches
_NINJA_STEP = re.compile(r"\[(\d+)/(\d+)\]")
_NO_COMPILER = (
    "No C++ compiler was found; install one (Debian, Ubuntu: apt install g++; Fedora: dnf install gcc-c++; "
    "macOS: xcode-select --install) and run again."
)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a wheel contains.

    The interpreter is not among it: the wheel is tagged `py3-none`, since Python meets the library by
    ctypes only.
    """

    upstream: Upstream
    patches: str  # digest
    backend: str
    options: tuple[str, ...]  # for CMake
    compiler: str
    platform: str
    processor: str  # the library is built for the processor it is built on

    @property
    def key(self) -> str:
        """A name for the combination: the same parts, the same key."""
        parts = [
            *(self.upstream.name, self.upstream.patched_version, self.upstream.sha256, self.patches),
            *(self.backend, list(self.options), self.compiler, self.platform, self.processor),
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]

    @property
    def record(self) -> dict[str, str]:
        """What the wheel says of itself."""
        return {"key": self.key, "version": self.upstream.patched_version, "backend": self.backend}


def make_recipe(
    patches: Path, backend: str, environment: Mapping[str, str] = os.environ, *, rpc: bool = True
) -> Recipe:
    """The recipe for this machine.

    Args:
        patches: the repository's `patches/`.
        backend: a name in `backends.CMAKE_OPTIONS`.
        environment: CMAKE_ARGS (the person's own options), CXX.
        rpc: whether it can compute on other machines, and comes with the program that serves them.

    Raises:
        ProvisionError: there is no C++ compiler.
    """
    own = tuple(shlex.split(environment.get("CMAKE_ARGS", "")))
    compiler = _compiler_version(environment)
    if backend == "cuda":
        compiler += (output_of([find_program("nvcc") or "nvcc", "--version"]) or "").strip()
    return Recipe(
        upstream=read_upstream(patches / "upstream.toml"),
        patches=content_digest(patches, patch_files(patches)),
        backend=backend,
        options=(*_COMMON_OPTIONS, *cmake_options(backend, rpc), *own),
        compiler=compiler,
        platform=sysconfig.get_platform(),
        processor=_processor(),
    )


def ensure_wheel(
    recipe: Recipe, patches: Path, cache: Path, jobs: int | None = None, keep_build: bool = False
) -> Path:
    """The recipe's wheel, from the cache or built now.

    Args:
        recipe: what to build.
        patches: the repository's `patches/`, as they were when the recipe was made.
        cache: the backend's folder in the user's cache.
        jobs: how many compilers at a time; default: as many as there are cores, and memory for.
        keep_build: whether the source and object files stay in the cache for a look at them.

    Raises:
        ProvisionError: a step failed; no wheel is left half built.
    """
    kept = cache / "wheels" / recipe.key
    with exclusive(cache / "lock", "building the library") as lock:
        if kept.is_dir():
            os.utime(kept)  # the time of its last use, before others are pruned
        found = list(kept.glob("*.whl"))
        build = cache / "build"
        if not found or (keep_build and not _is_prepared(build, recipe)):
            log = cache / "build.log"
            log.unlink(missing_ok=True)
            tools = ensure_tools(cache, log)
            _prepare_source(recipe, patches, build, tools, sdists=cache / "sdist")
            _build(recipe, build, kept, tools, jobs=jobs or default_jobs(), lock=lock)
            if not keep_build:
                shutil.rmtree(build)
            prune_wheels(kept.parent)
            found = list(kept.glob("*.whl"))
    return found[0]


def prune_wheels(folder: Path) -> None:
    """Remove all but the `KEPT_WHEELS` wheels that were used last. The caller holds the cache's lock."""
    by_use = sorted(folder.glob("[!.]*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in by_use[KEPT_WHEELS:]:
        shutil.rmtree(path)


def default_jobs() -> int:
    """How many compilers this machine can run at a time."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(os.cpu_count() or 1, memory // _MEMORY_PER_JOB))


def share_of_time(steps: float) -> float:
    """The share of a CPU build's time that is over when a share of its steps is."""
    for (x0, y0), (x1, y1) in pairwise(_TIME_AT_STEPS):
        if steps <= x1:
            return y0 + (y1 - y0) * (steps - x0) / (x1 - x0)
    return 1.0


def _prepare_source(recipe: Recipe, patches: Path, build: Path, tools: Tools, *, sdists: Path) -> None:
    """The patched source in `build/source`: what an interrupted run left of the same recipe, or a fresh one.

    The folder is always the same one, so that ccache knows its files again whatever changed.
    """
    if _is_prepared(build, recipe):
        note("Going on with the interrupted build.")
        return
    shutil.rmtree(build, ignore_errors=True)
    archive = fetch_sdist(recipe.upstream, sdists, tools)
    source = build / "source"
    with Progress(
        f"Unpacking {recipe.upstream.name} {recipe.upstream.version}", expected_seconds=5
    ) as progress:
        unpack(archive, source, progress.update)
    scripts = str(Path(__file__).resolve().parents[1])
    command = [str(tools.python), "-m", "provision.patches", str(source), str(patches)]
    _apply(command, scripts, tools.log)
    (source / "llama_cpp" / RECORD).write_text(json.dumps(recipe.record) + "\n", encoding="utf-8")
    (build / _PREPARED).write_text(recipe.key, encoding="utf-8")


def _is_prepared(build: Path, recipe: Recipe) -> bool:
    """Whether the build folder has this recipe's patched source, whole."""
    prepared = build / _PREPARED
    return prepared.exists() and prepared.read_text(encoding="utf-8") == recipe.key


def _apply(command: list[str], scripts: str, log: Path) -> None:
    said: list[str] = []
    try:
        run_logged(
            command, log, "Applying the patches", on_line=said.append, environment={"PYTHONPATH": scripts}
        )
    except ProvisionError as error:
        # The patching program ends in one sentence of its own: it says more than "failed".
        raise ProvisionError(said[-1]) if said else error from error


def _build(recipe: Recipe, build: Path, kept: Path, tools: Tools, *, jobs: int, lock: int) -> None:
    # CMake finds a ccache in the system's folders too; but the compiler commands need it on the PATH.
    cached = any(shutil.which(program) for program in ("ccache", "sccache"))
    environment = {
        "CMAKE_ARGS": shlex.join([*recipe.options, f"-DGGML_CCACHE={'ON' if cached else 'OFF'}"]),
        "CMAKE_GENERATOR": "Ninja",
        "CMAKE_BUILD_PARALLEL_LEVEL": str(jobs),
        # With these ccache finds what another folder's build compiled.
        "CCACHE_BASEDIR": str(build),
        "CCACHE_NOHASHDIR": "1",
        "PATH": os.pathsep.join([os.environ.get("PATH", os.defpath), str(tools.scripts)]),
        **environment_for(recipe.backend),
    }
    kept.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".wheel-", dir=kept.parent) as temporary:
        command: list[str | Path] = [
            *(
                tools.python,
                "-m",
                "pip",
                "wheel",
                "--verbose",
                "--no-deps",
                "--no-build-isolation",
                "--no-index",
            ),
            *("--config-settings", f"build-dir={build / 'objects'}"),
            *("--wheel-dir", Path(temporary) / "out", build / "source"),
        ]
        label = f"Compiling the patched llama.cpp for {recipe.backend}, {jobs} at a time"
        with Progress(label, _EXPECTED_BUILD_SECONDS) as progress:

            def on_line(line: str) -> None:
                if match := _NINJA_STEP.match(line):
                    steps = int(match[1]) / int(match[2])
                    progress.update(share_of_time(steps) if recipe.backend == "cpu" else steps, 1.0)

            what = "Compiling the patched llama.cpp"
            run_logged(command, tools.log, what, on_line=on_line, environment=environment, inherit=[lock])
        made = list((Path(temporary) / "out").glob("*.whl"))
        if len(made) != 1 or recipe.upstream.patched_version not in made[0].name:
            raise ProvisionError(
                f"the build left {[path.name for path in made]} instead of one wheel; see {tools.log}."
            )
        shutil.rmtree(kept, ignore_errors=True)
        made[0].parent.rename(kept)
        os.utime(kept)


def _compiler_version(environment: Mapping[str, str]) -> str:
    asked = environment.get("CXX", "")
    candidates = [shlex.split(asked)] if asked else [["c++"], ["g++"], ["clang++"]]
    for candidate in candidates:
        if sys.platform == "darwin" and not asked and output_of(["xcode-select", "-p"]) is None:
            break  # macOS has a c++ that does nothing but offer to install one
        if version := output_of([*candidate, "--version"]):
            return " ".join(candidate) + ": " + version.splitlines()[0]
    raise ProvisionError(_NO_COMPILER)


def _processor() -> str:
    if sys.platform == "darwin":
        return (output_of(["sysctl", "-n", "machdep.cpu.brand_string"]) or platform.machine()).strip()
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n", 1)[0]
    except OSError:
        return platform.machine()
    named = ("model name", "flags", "Features", "CPU implementer", "CPU part")
    lines = [line for line in first.splitlines() if line.partition(":")[0].strip() in named]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
