"""The project itself in its environment: editable, with its dependencies.

pip would build the editable wheel in an environment of its own, and fetch the build system for it each time.
The build tools have that build system (`tools.py`): the wheel is built there, without a network, and then
installed like any other.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from provision.commands import run_logged
from provision.failure import ProvisionError
from provision.tools import Tools, pip_install

NAME = "ropewalk"

_BUILD = "import sys; from hatchling.build import build_editable; build_editable(sys.argv[1])"
_POINTER = f"_{NAME}.pth"  # hatchling's name for the file that leads to the source


def install_project(
    tools: Tools, python: Path, root: Path, extras: Iterable[str], also: Iterable[str] = ()
) -> None:
    """Install the checkout and what it depends on; what is there and fits stays.

    Args:
        tools: the build tools.
        python: the interpreter of the environment to install into.
        root: the checkout.
        extras: names in `[project.optional-dependencies]`.
        also: further distributions to install, by name.

    Raises:
        ProvisionError: a step failed.
    """
    folder = root / ".build" / "editable"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    run_logged([tools.python, "-c", _BUILD, folder], tools.log, f"Building {NAME}", folder=root)
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise ProvisionError(f"building {NAME} left {len(wheels)} wheels instead of one; see {tools.log}.")
    wheel = f"./{wheels[0].relative_to(root)}"  # relative: brackets in the checkout's path are no extras
    label = "Installing the dependencies"
    chosen = ",".join(extras)
    wanted = [f"{wheel}[{chosen}]" if chosen else wheel, *also]
    pip_install(tools, python, wanted, label, seconds=45, folder=root)
    # Last and by force: pip leaves an installed wheel of the same version alone, whatever it leads to.
    arguments = ["--no-deps", "--no-index", "--force-reinstall", wheel]
    pip_install(tools, python, arguments, f"Installing {NAME}", seconds=2, folder=root)


def leads_to(site: Path, root: Path) -> bool:
    """Whether the project installed in `site` is the checkout at `root`."""
    try:
        lines = (site / _POINTER).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return False
    return bool(lines) and all(root in Path(line).parents for line in lines if line)
