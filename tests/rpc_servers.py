"""`ggml-rpc-server`s on free loopback ports, for as long as a test needs them."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ropewalk.backend import rpc
from ropewalk.backend.errors import RpcServerError
from ropewalk.backend.rpc_server import RpcAddress, say_hello, server_program

LOOPBACK = "127.0.0.1"


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
    """The program of the installed library, serving this machine's CPU with one thread; killed at the end."""
    address = RpcAddress(LOOPBACK, free_port())
    log = folder / f"rpc-server-{address.port}.log"
    command = [str(server_program()), "--host", address.host, "--port", str(address.port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--threads", "1", "--device", "CPU"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    server = RunningServer(address, process, log)
    try:
        wait_until_it_answers(address, process)
        yield server
    finally:
        server.kill()


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
