"""`ropewalk rpc-server`s, each a `ggml-rpc-server` then, on free loopback ports and ended with their test."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli_running import environment
from ropewalk.backend import rpc
from ropewalk.backend.errors import RpcServerError
from ropewalk.backend.rpc_server import RpcAddress, say_hello

LOOPBACK = "127.0.0.1"

_prctl = getattr(ctypes.CDLL(None), "prctl", None)  # Linux has it
_PR_SET_PDEATHSIG = 1  # linux/prctl.h; it outlasts the exec


@dataclass(frozen=True)
class RunningServer:
    """A server that answers, its process, and where its output goes."""

    address: RpcAddress
    process: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait()


def require_rpc() -> None:
    """Fail the test where the library has no RPC, so that it cannot be left out unnoticed."""
    if rpc.is_built_in():
        return
    message = "the loaded llama.cpp was built without RPC: run ./scripts/setup --rpc"
    if os.environ.get("ROPEWALK_ALLOW_STOCK") == "1":
        pytest.skip(message)
    pytest.fail(message)


def free_port() -> int:
    """A port that nothing listens at."""
    with socket.socket() as trial:
        trial.bind((LOOPBACK, 0))
        return int(trial.getsockname()[1])


@contextmanager
def running_server(folder: Path) -> Iterator[RunningServer]:
    """A `ropewalk rpc-server` of this machine's CPU with one thread; killed at the end, come how it may."""
    address = RpcAddress(LOOPBACK, free_port())
    log = folder / f"rpc-server-{address.port}.log"
    command = [sys.executable, "-m", "ropewalk", "rpc-server", "--port", str(address.port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--threads", "1", "--devices", "CPU"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(),
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - one C function, looked up before, and no lock
        )
    server = RunningServer(address, process, log)
    try:
        wait_until_it_answers(address, process)
        yield server
    finally:
        server.kill()


def _end_with_parent() -> None:
    """In the child: be killed when the tests' process dies (a client whose server is lost is aborted)."""
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


def wait_until_it_answers(address: RpcAddress, process: subprocess.Popen[bytes]) -> None:
    """Return when a server that was just started takes connections."""
    while True:
        try:
            say_hello(address)
        except RpcServerError:
            assert process.poll() is None, f"the server ended with {process.returncode}"
            time.sleep(0.05)
        else:
            return
