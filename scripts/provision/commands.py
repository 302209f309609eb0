"""Running other programs: output to a log, progress from its lines, nothing left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from provision.failure import ProvisionError

_GRACE_SECONDS = 5
# How pip, compilers, CMake and Ninja begin the line that says what went wrong; later ones are consequences.
_ERROR = re.compile(r"\berror: |^CMake Error|^FAILED: ", re.IGNORECASE)


def run_logged(
    command: Sequence[str | Path],
    log: Path,
    what: str,
    *,
    on_line: Callable[[str], None] | None = None,
    environment: Mapping[str, str] | None = None,
    inherit: Sequence[int] = (),
    folder: Path | None = None,
) -> None:
    """Run a program to its end, all its output appended to a log.

    The program gets a process group of its own, and the whole group is ended when this run is interrupted,
    so that no compiler goes on behind the person's back.

    Args:
        command: the program and its arguments.
        log: where the output goes.
        what: the step in words, for the sentence of a failure ("installing the dependencies").
        on_line: called with each line of output.
        environment: variables on top of this process's own.
        inherit: file descriptors that the program keeps open (locks).
        folder: where it runs; None: here.

    Raises:
        ProvisionError: the program failed, or is not there.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    shown = [str(part) for part in command]
    first_error = last_line = ""
    with log.open("a", encoding="utf-8") as out:
        out.write(f"$ {' '.join(shown)}\n")
        out.flush()
        try:
            process = subprocess.Popen(
                shown,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
                pass_fds=tuple(inherit),
                cwd=folder,
            )
        except OSError as error:
            raise ProvisionError(f"{what} failed: {shown[0]} cannot be run ({error.strerror}).") from error
        try:
            assert process.stdout is not None
            for line in process.stdout:
                out.write(line)
                text = line.strip()
                if not first_error and _ERROR.search(text):
                    first_error = text
                if text:
                    last_line = text
                if on_line is not None:
                    on_line(text)
            code = process.wait()
        except BaseException:
            _end_group(process)
            raise
    if code != 0:
        reason = (first_error or last_line or f"exit code {code}").rstrip(".")
        raise ProvisionError(f"{what} failed: {reason}; the whole output is in {log}.")


def output_of(command: Sequence[str | Path]) -> str | None:
    """What a short program prints, or None where it is missing, fails or hangs."""
    try:
        finished = subprocess.run(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=60,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return finished.stdout


def note(text: str) -> None:
    """Tell the person something in one line."""
    print(text, file=sys.stderr, flush=True)


def _end_group(process: subprocess.Popen[str]) -> None:
    for signum in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, signum)
            process.wait(_GRACE_SECONDS)
        except (ProcessLookupError, PermissionError):
            return
        except subprocess.TimeoutExpired:
            continue
        return
