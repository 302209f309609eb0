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
from provision.health import Interpreter, interpreter_of, why_anew
from provision.installed import damaged, forget, installed_names
from provision.library import DISTRIBUTION, ensure_library, package_folder, read_record
from provision.lock import exclusive
from provision.patches import patch_files
from provision.progress import Progress
from provision.project import NAME, install_project, leads_to
from provision.tools import ensure_tools, make_environment

_LOADED_VERSION = "import llama_cpp; llama_cpp.llama_backend_init(); print(llama_cpp.__version__)"


@dataclass(frozen=True)
class Stamp:
    """What an environment was last set up as.

    Attributes:
        contents: digest of `pyproject.toml` and `patches/`.
        extras: the installed extras, sorted.
        backend: what was asked for (`auto` included).
        library: the patched library's key.
        distributions: the names of what was installed then, sorted.
        rpc: whether the library was built with RPC; None in a stamp from before that was asked.
    """

    contents: str
    extras: tuple[str, ...]
    backend: str
    library: str
    distributions: tuple[str, ...]
    rpc: bool | None = None


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


def set_up(
    checkout: Checkout,
    extras: Iterable[str],
    backend: str | None,
    jobs: int | None = None,
    wanted_python: str | None = None,
    *,
    rpc: bool | None = None,
) -> bool:
    """Make the environment what it should be, and do nothing where it is.

    Args:
        checkout: the repository.
        extras: names in `[project.optional-dependencies]`; those installed before stay.
        backend: what to build the library for; None: what it was built for before, else `auto`.
        jobs: how many compilers at a time.
        wanted_python: the version (`3.11`) of the running Python where the person asked for it by name; an
            environment with another one is made anew with this one.
        rpc: whether the library is built with RPC; None: as it was before, else with.

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
        wanted_rpc = _first_said(rpc, stamp.rpc if stamp else None, True)
        contents = checkout.contents()
        interpreter = interpreter_of(checkout.environment)
        reason = why_anew(checkout.environment, interpreter, wanted_python)
        usable = interpreter if reason is None else None
        broken = broken_parts(usable.site, stamp) if usable else ()
        if (
            usable is not None
            and stamp is not None
            and (stamp.contents, stamp.extras) == (contents, all_extras)
            and (stamp.backend, stamp.rpc) == (wanted_backend, wanted_rpc)
            and not broken
            and leads_to(usable.site, checkout.root)
            and library_key(usable.site) == stamp.library
        ):
            return False
        if reason is not None and checkout.environment.exists():
            note(f"{reason}; it is made anew.")
        if broken:
            note(f"Files are missing in .venv, of {', '.join(broken)}; these are installed again.")
        checkout.stamp.unlink(missing_ok=True)
        install(
            checkout,
            all_extras,
            wanted_backend,
            rpc=wanted_rpc,
            jobs=jobs,
            usable=usable,
            broken=broken,
            contents=contents,
        )
        return True


def install(
    checkout: Checkout,
    extras: tuple[str, ...],
    backend: str,
    *,
    rpc: bool,
    jobs: int | None,
    usable: Interpreter | None,
    broken: tuple[str, ...],
    contents: str,
) -> None:
    """Do the work of `set_up`: the environment, the library, the dependencies, and last of all the stamp.

    Args:
        checkout: the repository.
        extras: all that are to be installed.
        backend: what to build the library for.
        rpc: whether to build it with RPC.
        jobs: how many compilers at a time.
        usable: the Python of the environment that is there; None: it is made anew.
        broken: what is to be installed again, by name.
        contents: for the stamp.

    Raises:
        ProvisionError: a step failed.
    """
    log = checkout.root / ".build" / "setup.log"
    log.unlink(missing_ok=True)
    if usable is None:
        with Progress("Making the virtual environment .venv", expected_seconds=5):
            make_environment(checkout.environment, log)
    else:
        for name in broken:
            forget(usable.site, name)
    record = ensure_library(checkout.patches, checkout.python, backend, jobs, rpc=rpc)
    cache = cache_dir() / "backend"
    with exclusive(cache / "lock", "building the library"):
        tools = ensure_tools(cache, log)
    again = [name for name in broken if name not in (NAME, DISTRIBUTION)]
    install_project(tools, checkout.python, checkout.root, extras, again)
    loaded = output_of([checkout.python, "-c", _LOADED_VERSION])
    if loaded is None or loaded.strip() != record["version"]:
        raise ProvisionError(
            f"the patched library was installed but {checkout.python} loads {(loaded or 'nothing').strip()}; "
            f"run {checkout.python} -c 'import llama_cpp' to see why."
        )
    names = tuple(sorted(installed_names(package_folder(checkout.python).parent)))
    write_stamp(checkout.stamp, Stamp(contents, extras, backend, record["key"], names, rpc))
    note(f"The environment is ready: {checkout.environment} (llama.cpp for {record['backend']}).")


def _first_said(*answers: bool | None) -> bool:
    """The first of these answers that is one."""
    return next(answer for answer in answers if answer is not None)


def broken_parts(site: Path, stamp: Stamp | None) -> tuple[str, ...]:
    """The distributions that lack files, or that were there at the last set-up and are not any more."""
    gone = set(stamp.distributions) - installed_names(site) if stamp else set()
    return tuple(sorted({*damaged(site), *gone}))


def library_key(site: Path) -> str | None:
    """The key of the patched library in `site`; None where there is none."""
    record = read_record(site / "llama_cpp")
    return record.get("key") if record else None


def read_stamp(path: Path) -> Stamp | None:
    """The stamp, or None where there is none that can be read."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        lists = {name: tuple(values[name]) for name in ("extras", "distributions")}
        return Stamp(**{**values, **lists})
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
