"""An RPC server as seen from outside: its address, whether one answers there, and the program that is one.

llama.cpp's client ends the process where a server does not answer or speaks another version, so it is asked
here first. Nothing here imports the native library.
"""

from __future__ import annotations

import re
import socket
import struct
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ropewalk.backend.errors import LibraryNotPatchedError, RpcServerError

PROTOCOL_MAJOR, PROTOCOL_MINOR = 7, 0
"""What the pinned ggml speaks (ggml-rpc.h): a server's major version must be this one, its minor at most."""

BUILT_WITHOUT = "was built without RPC: run ./scripts/setup --rpc"

_ADDRESS = re.compile(r"([^\s:,\[\]]+):([0-9]{1,5})")
_ANSWER_SECONDS = 10.0
_HELLO, _CAPABILITIES = (
    14,
    24,
)  # the command's number; bytes for transports besides TCP, none of which we have
_VERSION = struct.Struct("=QBBBx")  # length of what follows it, major, minor, patch


@dataclass(frozen=True)
class RpcAddress:
    """Where a server listens: a host name or an IPv4 address (ggml knows no IPv6), and a port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> RpcAddress:
        """The address that `HOST:PORT` says.

        Raises:
            ValueError: it says none.
        """
        match = _ADDRESS.fullmatch(text)
        if match is None or not 0 < int(match[2]) < 2**16:
            raise ValueError(f"'{text}' is not HOST:PORT")
        return cls(match[1], int(match[2]))

    def __str__(self) -> str:
        """`HOST:PORT`."""
        return f"{self.host}:{self.port}"

    def resolved(self) -> RpcAddress:
        """The same with the host as a number.

        Raises:
            RpcServerError: no such host.
        """
        try:
            return RpcAddress(socket.gethostbyname(self.host), self.port)
        except (OSError, UnicodeError) as error:
            raise RpcServerError(
                f"the host of the RPC server {self} is not known: check the name, or give its IPv4 address"
            ) from error


def say_hello(server: RpcAddress) -> None:
    """Make sure that a server answers, is free, and speaks this protocol.

    Args:
        server: with the host as a number.

    Raises:
        RpcServerError: it does not.
    """
    try:
        with socket.create_connection((server.host, server.port), _ANSWER_SECONDS) as connection:
            connection.settimeout(_ANSWER_SECONDS)
            connection.sendall(struct.pack("=BQ", _HELLO, _CAPABILITIES) + bytes(_CAPABILITIES))
            answer = _receive(connection, _VERSION.size + _CAPABILITIES)
    except TimeoutError as error:
        raise RpcServerError(
            f"the RPC server {server} does not answer: it serves one program at a time, so end the other "
            "one, or check the address and the firewall"
        ) from error
    except OSError as error:
        why = error.strerror or str(error)
        raise RpcServerError(
            f"no RPC server can be reached at {server} ({why}): start it there with `ropewalk rpc-server`"
        ) from error
    length, major, minor, patch = _VERSION.unpack_from(answer.ljust(_VERSION.size, b"\0"))
    if length != _VERSION.size - struct.calcsize("=Q") + _CAPABILITIES:
        raise RpcServerError(
            f"what listens at {server} is no RPC server, or one of another version: "
            "start `ropewalk rpc-server` of the same version there"
        )
    if major != PROTOCOL_MAJOR or minor > PROTOCOL_MINOR:
        raise RpcServerError(
            f"the RPC server {server} speaks version {major}.{minor}.{patch} of the protocol, and this is "
            f"{PROTOCOL_MAJOR}.{PROTOCOL_MINOR}: install the same version on both machines"
        )


def server_program() -> Path:
    """The `ggml-rpc-server` that was built with the installed library.

    Raises:
        LibraryNotPatchedError: there is none.
    """
    package = find_spec("llama_cpp")
    if package is not None and package.origin is not None:
        program = Path(package.origin).parent / "bin" / "ggml-rpc-server"
        if program.is_file():
            return program
    raise LibraryNotPatchedError(f"The installed llama.cpp {BUILT_WITHOUT}")


def _receive(connection: socket.socket, size: int) -> bytes:
    """As many bytes, or fewer where the other side closes before."""
    data = b""
    while len(data) < size and (piece := connection.recv(size - len(data))):
        data += piece
    return data
