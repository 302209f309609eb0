"""`ropewalk rpc-server`: this machine's devices for other machines."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
from pathlib import Path

import click
from platformdirs import user_cache_path

from ropewalk.backend.host import available_cores
from ropewalk.backend.rpc_server import RpcAddress, server_program


@click.command("rpc-server")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="The address of this machine to listen at; 0.0.0.0 for all of them.",
)
@click.option("--port", type=click.IntRange(1, 2**16 - 1), default=50052, show_default=True)
@click.option("--threads", type=click.IntRange(1), help="CPU threads [default: one per core].")
@click.option(
    "--devices", help="Which devices, by ggml's names, such as CUDA0,CUDA1 [default: the GPUs, else the CPU]."
)
@click.option("--cache", is_flag=True, help="Keep large weights on disk, to be sent once only.")
def rpc_server_command(host: str, port: int, threads: int | None, devices: str | None, cache: bool) -> None:
    """Let other machines compute on this one's devices.

    They name it as `--rpc HOST:PORT`. It serves one program at a time, until it is interrupted. Whoever can
    reach it needs no password, sees what it computes, and may be able to take the machine over: serve
    networks only in which you trust everyone.
    """
    program = server_program()
    address = RpcAddress(host, port).resolved()
    _require_free(address)
    command = [str(program), "--host", address.host, "--port", str(port)]
    command += ["--threads", str(threads or available_cores())]
    command += ["--device", devices] if devices else []
    command += ["--cache"] if cache else []
    if not ipaddress.ip_address(address.host).is_loopback:
        click.echo(
            f"ropewalk: Whoever can reach port {port} of this machine can use it without a password, and "
            "what is sent is not encrypted: serve networks only in which you trust everyone.",
            err=True,
        )
    _become(program, command, user_cache_path("ropewalk"))


def _require_free(address: RpcAddress) -> None:
    """Refuse an address that cannot be listened at, as the program would end without saying why."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the program does
        try:
            trial.bind((address.host, address.port))
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise click.ClickException(
                f"Cannot listen at {address}: {why}; choose another --port or --host."
            ) from error


def _become(program: Path, command: list[str], cache: Path) -> None:
    """Replace this process by the program, so that whatever ends the one ends the other.

    A client that goes away while the program answers would end it by SIGPIPE: that is ignored, as it is
    in Python, and the program waits for the next client.
    """
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    os.execve(program, command, os.environ | {"LLAMA_CACHE": str(cache)})
