"""Running a job in a child process of its own, with one library or the other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from benchmark.jobs import OURS, STOCK, AboutJob, Job, Json, job_to_json
from provision.failure import ProvisionError

_SCRIPTS = Path(__file__).resolve().parents[1]
_NOT_PATCHED = 5


@dataclass(frozen=True)
class Libraries:
    """The two builds.

    Attributes:
        stock: the folder of the unpatched `libllama`; None where nothing is compared with it.
    """

    stock: Path | None = None

    def run(self, library: str, job: Job, on_work: Callable[[float], None] | None = None) -> Json:
        """Does a job in a fresh process, which nothing of the runs before it is left in.

        Args:
            library: `OURS` or `STOCK`.
            job: what.
            on_work: told the work that is done.

        Returns:
            What the child answers, as JSON has it.

        Raises:
            ProvisionError: the child could not do it; the message says why.
        """
        environment = {**os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(
            filter(None, [str(_SCRIPTS), environment.get("PYTHONPATH", "")])
        )
        if library == STOCK:
            assert self.stock is not None, "there is no unpatched library"
            environment["LLAMA_CPP_LIB_PATH"] = str(self.stock)
        with TemporaryFile() as complaints:
            process = subprocess.Popen(
                [sys.executable, "-m", "benchmark.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                env=environment,
                text=True,
                start_new_session=True,  # an interruption is for this process, which ends the child itself
            )
            try:
                return _conversation(process, job, on_work)
            except _ChildFailedError as failure:
                complaints.seek(0)
                said = complaints.read().decode("utf-8", "replace").strip().splitlines()
                reason = failure.reason or (said[-1] if said else "it ended without a word")
                raise ProvisionError(f"the {library} library did not measure: {reason}") from failure
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                process.communicate()

    def check(self) -> dict[str, dict[str, Any]]:
        """What both libraries say of themselves, after making sure that they can be compared.

        Raises:
            ProvisionError: ours is not patched, the other is, or they were built with different options.
        """
        ours = self.run(OURS, AboutJob())
        if not ours["patched"]:
            raise ProvisionError(
                "the installed llama.cpp is not the patched one: run ./scripts/setup", _NOT_PATCHED
            )
        if self.stock is None:
            return {OURS: ours}
        stock = self.run(STOCK, AboutJob())
        if not stock["unpatched"]:
            raise ProvisionError(f"the library in {self.stock} is a patched one: name an unpatched one")
        if ours["system_info"] != stock["system_info"]:
            raise ProvisionError(
                "the two libraries were built with different options "
                f"({OURS}: {ours['system_info']}; {STOCK}: {stock['system_info']}): build both the same way"
            )
        return {OURS: ours, STOCK: stock}


class _ChildFailedError(Exception):
    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


def _conversation(process: subprocess.Popen[str], job: Job, on_work: Callable[[float], None] | None) -> Json:
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(json.dumps(job_to_json(job)) + "\n")
        process.stdin.flush()  # and stays open: the child ends when it is closed
    except BrokenPipeError as error:
        raise _ChildFailedError from error
    for line in process.stdout:
        message = json.loads(line)
        if "result" in message:
            process.wait()
            return message["result"]
        if "error" in message:
            raise _ChildFailedError(message["error"])
        if on_work is not None:
            on_work(message["work"])
    raise _ChildFailedError
