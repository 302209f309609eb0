"""Other machines to compute on: the devices of RPC servers, which layers are placed on as on a GPU."""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Sequence

from llama_cpp import llama_cpp as capi

from ropewalk.backend import library
from ropewalk.backend.errors import LibraryNotPatchedError, RpcServerError
from ropewalk.backend.library import CType
from ropewalk.backend.rpc_server import BUILT_WITHOUT, RpcAddress, say_hello

_MAX_DEVICES = 14  # a ggml scheduler takes 16 backends; the CPU is one, and an accelerator may be another

_in_use: Counter[RpcAddress] = Counter()
"""Servers that models of this process are placed on: they serve one connection at a time, which is ours."""


def is_built_in() -> bool:
    """Whether the loaded library can use RPC servers."""
    return bool(capi.llama_supports_rpc())


def devices_for_layers(servers: Sequence[RpcAddress]) -> CType:
    """What a model's layers are spread over: the servers' devices, then this machine's GPUs.

    That is llama.cpp's own order. The servers' devices are not registered with ggml, so that models loaded
    later do not use them unasked.

    Args:
        servers: at least one.

    Returns:
        A null-terminated C array of `ggml_backend_dev_t`, for `llama_model_params.devices`.

    Raises:
        LibraryNotPatchedError: the library was built without RPC.
        RpcServerError: a server does not answer, is named twice, or has another version; too many devices.
    """
    if not is_built_in():
        raise LibraryNotPatchedError(
            f"Computing on other machines needs RPC, and the loaded llama.cpp {BUILT_WITHOUT}"
        )
    handles = [*_remote(servers), *_local_gpus()]
    if len(handles) > _MAX_DEVICES:
        raise RpcServerError(
            f"the RPC servers and this machine have {len(handles)} devices together, and llama.cpp takes "
            f"at most {_MAX_DEVICES}: name fewer servers"
        )
    return (ctypes.c_void_p * (len(handles) + 1))(*handles, None)


def connect(servers: Sequence[RpcAddress]) -> None:
    """Notes that a model was placed on servers, which from then on answer nobody else."""
    _in_use.update(server.resolved() for server in servers)


def disconnect(servers: Sequence[RpcAddress]) -> None:
    """Notes that a model was freed."""
    _in_use.subtract(server.resolved() for server in servers)


def _remote(servers: Sequence[RpcAddress]) -> list[int]:
    add_server = _add_server()
    named: dict[RpcAddress, RpcAddress] = {}
    handles: list[int] = []
    for server in servers:
        address = server.resolved()
        if address in named:
            raise RpcServerError(f"{named[address]} and {server} are one RPC server: name it once")
        named[address] = server
        if not _in_use[address]:
            say_hello(address)
        registry = add_server(str(address).encode("ascii"))
        count = library.ggml("ggml_backend_reg_dev_count", ctypes.c_size_t, ctypes.c_void_p)
        get = library.ggml("ggml_backend_reg_dev_get", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
        if not registry:
            raise RpcServerError(
                f"the RPC server {server} has no devices: look at what it says where it runs"
            )
        handles += [get(registry, i) for i in range(count(registry))]
    return handles


def _add_server() -> CType:
    """`ggml_backend_rpc_add_server`, which connects to a server and makes devices of what it has."""
    registry = library.ggml("ggml_backend_reg_by_name", ctypes.c_void_p, ctypes.c_char_p)(b"RPC")
    address_of = library.ggml(
        "ggml_backend_reg_get_proc_address", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p
    )
    function = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_char_p)
    return function(address_of(registry, b"ggml_backend_rpc_add_server"))


def _local_gpus() -> list[int]:
    """This machine's, as llama.cpp picks them: integrated ones only where there are no others."""
    get = library.ggml("ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
    by_kind: dict[str, list[int]] = {"gpu": [], "igpu": []}
    for index, device in enumerate(library.devices()):
        if device.kind in by_kind:
            by_kind[device.kind].append(get(index))
    return by_kind["gpu"] or by_kind["igpu"]
