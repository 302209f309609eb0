"""The patched library in an environment: which one is there, and putting the right one in."""

from __future__ import annotations

import json
from pathlib import Path

from provision.backends import choose, this_machine
from provision.cache import cache_dir
from provision.commands import note, output_of, run_logged
from provision.failure import ProvisionError
from provision.installed import forget, has_whole
from provision.lock import exclusive
from provision.tools import ensure_tools
from provision.wheel import RECORD, ensure_wheel, make_recipe

DISTRIBUTION = "llama-cpp-python"


def ensure_library(
    patches: Path,
    python: Path,
    backend: str,
    jobs: int | None = None,
    keep_build: bool = False,
    *,
    rpc: bool = True,
) -> dict[str, str]:
    """See to it that the library built from `patches/` is the one installed for `python`.

    Args:
        patches: the repository's `patches/`.
        python: the interpreter of the environment to install into.
        backend: one of `backends.CHOICES`.
        jobs: how many compilers at a time.
        keep_build: whether the build's files stay in the cache.
        rpc: whether the library is to compute on other machines too.

    Returns:
        The installed library's record (`wheel.Recipe.record`).

    Raises:
        ProvisionError: a step failed; the environment then has the library it had before.
    """
    choice = choose(backend, this_machine())
    recipe = make_recipe(patches, choice.backend, rpc=rpc)
    place = package_folder(python)
    whole = has_whole(place.parent, DISTRIBUTION)  # the record alone may outlive the library it speaks of
    if whole and read_record(place) == recipe.record and not keep_build:
        return recipe.record
    note(f"Backend: {choice.backend} ({choice.reason}).")
    cache = cache_dir() / "backend"
    wheel = ensure_wheel(recipe, patches, cache, jobs, keep_build)
    log = cache / "install.log"
    with exclusive(cache / "lock", "building the library"):
        tools = ensure_tools(cache, log)
    if not whole:
        forget(place.parent, DISTRIBUTION)  # pip cannot uninstall what has lost its list of files
    arguments = ["--no-deps", "--no-index", "--force-reinstall", str(wheel)]
    command: list[str | Path] = [tools.python, "-m", "pip", "--python", python, "install", *arguments]
    run_logged(command, log, "Installing the patched library")
    if read_record(place) != recipe.record or not has_whole(place.parent, DISTRIBUTION):
        raise ProvisionError(f"{wheel.name} was installed but is not what {python} finds; see {log}.")
    return recipe.record


def package_folder(python: Path) -> Path:
    """Where an environment has, or would have, the `llama_cpp` package.

    Raises:
        ProvisionError: the interpreter cannot be run.
    """
    said = output_of([python, "-c", "import sysconfig; print(sysconfig.get_path('platlib'))"])
    if said is None:
        raise ProvisionError(f"{python} cannot be run; make the environment with ./scripts/setup.")
    return Path(said.strip()) / "llama_cpp"


def read_record(package: Path) -> dict[str, str] | None:
    """What the installed package says it was built from; None for a stock one or none at all."""
    try:
        record = json.loads((package / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None
