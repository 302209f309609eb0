"""Files put aside while others take their names; they come back where that did not come to its end.

Several files cannot change their names at once, so a process that is killed in between leaves some of them
under neither. The next run for the same names brings back what was put aside.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ropewalk_convert.leftovers import hold, is_held

_NAME_LENGTH = 200


@contextmanager
def put_aside(targets: Sequence[Path]) -> Iterator[None]:
    """Put away what stands under these names, the first one first; removed when the block ends well.

    Where it does not, they come back. Names under which nothing stands count as well.

    Raises:
        OSError: a file cannot be renamed.
    """
    asides: list[Path] = []
    with ExitStack() as locks, ExitStack() as undoing:
        for target in targets:
            try:
                descriptor = os.open(target, os.O_RDONLY)
            except FileNotFoundError:
                continue
            locks.callback(os.close, descriptor)
            hold(descriptor)  # before it has the name that others look for
            aside = target.with_name(f".{target.name[:_NAME_LENGTH]}.{secrets.token_hex(4)}.old")
            undoing.callback(_rename, aside, target)
            asides.append(aside)
            target.rename(aside)
        yield
        undoing.pop_all()
        for aside in asides:
            _remove(aside)


def bring_back_left(targets: Sequence[Path]) -> None:
    """Bring back what a killed process put aside of these files; what cannot be renamed stays put aside.

    The first of them gets its name last. Where it stands, the others do, too, and what was put aside is of no
    more use.

    Args:
        targets: the files of a set, the first one first.
    """
    left = [(aside, target) for target in targets for aside in _left_of(target)]
    finished = os.path.lexists(targets[0])
    for aside, target in left:
        if finished:
            _remove(aside)
        else:
            _rename(aside, target)


def _left_of(target: Path) -> list[Path]:
    """What was put aside of a file by a process that is gone, the latest last."""
    name = re.compile(rf"\.{re.escape(target.name[:_NAME_LENGTH])}\.[0-9a-f]{{8}}\.old")
    found: list[Path] = []
    with suppress(OSError):
        for path in target.parent.iterdir():
            if name.fullmatch(path.name) and path.is_file() and not is_held(path):
                found.append(path)
    return sorted(found, key=lambda path: path.stat().st_ctime_ns)


def _rename(path: Path, target: Path) -> None:
    with suppress(OSError):
        path.replace(target)


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
