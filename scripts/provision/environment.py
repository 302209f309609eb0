"""The project's virtual environment: made, filled, and known to be up to date by a stamp written last."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from provision.backends import AUTO
from provision.cache import cache_dir
from provision.commands import note, output_of
from provision.digests import content_digest
from provision.failure import USAGE, ProvisionError
from provision.library import ensure_library, package_folder, read_record
from provision.lock import exclusive
from provision.patches import patch_files
from provision.progress import Progress
from provision.tools import ensure_tools, make_environment, pip_install

_VERSION_OF_PYTHON = "import sys; print('.'.join(map(str, sys.version_info[:2])))"
_LOADED_VERSION = "import llama_cpp; llama_cpp.llama_backend_init(); print(llama_cpp.__version__)"


@dataclass(frozen=True)
class Stamp:
    """What an environment was last set up as.

    Attributes:
        contents: digest of `pyproject.toml` and `patches/`.
        extras: the installed extras, sorted.
        backend: what was asked for (`auto` included).
        package: where the patched library was put.
        library: its key.
    """

    contents: str
    extras: tuple[str, ...]
    backend: str
    package: str
    library: str

    def still_true(self) -> bool:
        """Whether the library that was installed is still the one that is there."""
        record = read_record(Path(self.package))
        return record is not None and record.get("key") == self.library


@dataclass(frozen=True)
class Checkout:
    """The repository's parts that set-up works on."""

    root: Path

    @property
    def environment(self) -> Path:
        """The virtual environment."""
        return self.root / ".venv"

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.environment / "bin" / "python"

    @property
    def stamp(self) -> Path:
        """Where it says what it is."""
        return self.environment / "ropewalk-setup.json"

    @property
    def patches(self) -> Path:
        """The patches to llama.cpp."""
        return self.root / "patches"

    def contents(self) -> str:
        """The digest that set-up is keyed on."""
        return content_digest(self.root, [self.root / "pyproject.toml", *patch_files(self.patches)])


def set_up(checkout: Checkout, extras: Iterable[str], backend: str | None, jobs: int | None = None) -> bool:
    """Make the environment what it should be, and do nothing where it is.

    Args:
        checkout: the repository.
        extras: names in `[project.optional-dependencies]`; those installed before stay.
        backend: what to build the library for; None: what it was built for before, else `auto`.
        jobs: how many compilers at a time.

    Returns:
        Whether anything had to be done.

    Raises:
        ProvisionError: a step failed; the next run starts from there.
    """
    extras = tuple(extras)
    _check_extras(checkout.root / "pyproject.toml", extras)
    with exclusive(checkout.root / ".build" / "setup.lock", "setting up this checkout"):
        stamp = read_stamp(checkout.stamp)
        all_extras = tuple(sorted({*extras, *(stamp.extras if stamp else ())}))
        wanted_backend = backend or (stamp.backend if stamp else AUTO)
        contents = checkout.contents()
        healthy = environment_is_healthy(checkout.environment)
        if (
            healthy
            and stamp is not None
            and (stamp.contents, stamp.extras, stamp.backend) == (contents, all_extras, wanted_backend)
            and stamp.still_true()
        ):
            return False
        checkout.stamp.unlink(missing_ok=True)
        install(checkout, all_extras, wanted_backend, jobs=jobs, healthy=healthy, contents=contents)
        return True


def install(
    checkout: Checkout,
    extras: tuple[str, ...],
    backend: str,
    *,
    jobs: int | None,
    healthy: bool,
    contents: str,
) -> None:
    """Do the work of `set_up`: the environment, the library, the dependencies, and last of all the stamp.

    Raises:
        ProvisionError: a step failed.
    """
    log = checkout.root / ".build" / "setup.log"
    log.unlink(missing_ok=True)
    if not healthy:
        with Progress("Making the virtual environment .venv", expected_seconds=5):
            make_environment(checkout.environment, log)
    record = ensure_library(checkout.patches, checkout.python, backend, jobs)
    cache = cache_dir() / "backend"
    with exclusive(cache / "lock", "building the library"):
        tools = ensure_tools(cache, log)
    project = f".[{','.join(extras)}]" if extras else "."
    label = "Installing the dependencies"
    pip_install(tools, checkout.python, ["--editable", project], label, seconds=45, folder=checkout.root)
    loaded = output_of([checkout.python, "-c", _LOADED_VERSION])
    if loaded is None or loaded.strip() != record["version"]:
        raise ProvisionError(
            f"the patched library was installed but {checkout.python} loads {(loaded or 'nothing').strip()}; "
            f"run {checkout.python} -c 'import llama_cpp' to see why."
        )
    package = str(package_folder(checkout.python))
    write_stamp(checkout.stamp, Stamp(contents, extras, backend, package, record["key"]))
    note(f"The environment is ready: {checkout.environment} (llama.cpp for {record['backend']}).")


def environment_is_healthy(environment: Path) -> bool:
    """Whether a virtual environment is there, whole, and runs the Python it was made with.

    An environment whose base interpreter went away, or became another version (its packages lie in the old
    one's folder), has to be made anew.
    """
    try:
        made_with = (environment / "pyvenv.cfg").read_text(encoding="utf-8")
    except OSError:
        return False
    version = re.search(r"^version(?:_info)? *= *(\d+\.\d+)", made_with, re.MULTILINE)
    runs = output_of([environment / "bin" / "python", "-c", _VERSION_OF_PYTHON])
    return version is not None and runs is not None and runs.strip() == version[1]


def read_stamp(path: Path) -> Stamp | None:
    """The stamp, or None where there is none that can be read."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Stamp(**{**values, "extras": tuple(values["extras"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write_stamp(path: Path, stamp: Stamp) -> None:
    """Write the stamp, whole or not at all."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(asdict(stamp), indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def declared_extras(pyproject: str) -> tuple[str, ...]:
    """The names in `[project.optional-dependencies]`, by their lines (Python 3.10 has no TOML parser)."""
    _, _, section = pyproject.partition("[project.optional-dependencies]\n")
    names = re.findall(r"^([\w-]+) *= *\[", section.partition("\n[")[0], re.MULTILINE)
    return tuple(names)


def _check_extras(pyproject: Path, extras: tuple[str, ...]) -> None:
    declared = declared_extras(pyproject.read_text(encoding="utf-8"))
    for name in extras:
        if name not in declared:
            known = ", ".join(declared)
            raise ProvisionError(f"there is no extra {name!r} in pyproject.toml; there is: {known}.", USAGE)
