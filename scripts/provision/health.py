"""Whether a virtual environment can be gone on with, or has to be made anew."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from provision.commands import output_of

_VERSION_AND_SITE = (
    "import sys, sysconfig; print('.'.join(map(str, sys.version_info[:2]))); "
    "print(sysconfig.get_path('purelib'))"
)
_COMMANDS = ("ropewalk", "pip")  # these, where they are there, name the interpreter they were made for


@dataclass(frozen=True)
class Interpreter:
    """A virtual environment's Python.

    Attributes:
        version: major and minor, as in `3.11`.
        site: the folder that packages are installed into.
    """

    version: str
    site: Path


def interpreter_of(environment: Path) -> Interpreter | None:
    """The environment's Python, or None where it does not run as what it was made with.

    An environment whose base interpreter went away, or became another version (its packages lie in the old
    one's folder), is none.
    """
    try:
        made_with = (environment / "pyvenv.cfg").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    version = re.search(r"^version(?:_info)? *= *(\d+\.\d+)", made_with, re.MULTILINE)
    said = (output_of([environment / "bin" / "python", "-c", _VERSION_AND_SITE]) or "").splitlines()
    if version is None or len(said) != 2 or said[0] != version[1]:
        return None
    return Interpreter(said[0], Path(said[1]))


def why_anew(environment: Path, interpreter: Interpreter | None, wanted: str | None) -> str | None:
    """Why an environment has to be made anew, as the first half of a sentence; None where it has not.

    Args:
        environment: where it is.
        interpreter: what `interpreter_of` says of it.
        wanted: the version of Python that the person asked for by name; None: whichever it has.
    """
    if interpreter is None:
        return "The Python that .venv was made with is gone or is another version now"
    if wanted is not None and wanted != interpreter.version:
        return f"$PYTHON is Python {wanted} and .venv has {interpreter.version}"
    if not _lies_where_it_was_made(environment):
        return "This checkout was copied or moved, and the commands in .venv are those of the old place"
    return None


def _lies_where_it_was_made(environment: Path) -> bool:
    """Whether the environment's commands run its own interpreter: their first lines hold its whole path."""
    own = re.compile(rb"[! \"]" + re.escape(str(environment / "bin" / "python").encode()))
    for name in _COMMANDS:
        command = environment / "bin" / name
        # A path that is too long for a first line, or has a space in it, is on the second.
        if command.is_file() and not any(own.search(line) for line in command.read_bytes().split(b"\n")[:2]):
            return False
    return True
