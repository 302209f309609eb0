"""The devices besides the CPU that layers are placed on: this machine's GPUs, and other machines' devices."""

from __future__ import annotations

from collections.abc import Sequence

from ropewalk.backend import library, rpc
from ropewalk.backend.library import DeviceInfo
from ropewalk.backend.rpc_server import RpcAddress


def layer_devices(rpc_servers: Sequence[RpcAddress] = ()) -> tuple[DeviceInfo, ...]:
    """What llama.cpp spreads a model's layers over, in its order; empty where only the CPU computes.

    Args:
        rpc_servers: other machines to use.

    Raises:
        LibraryNotPatchedError: there are servers, and the library was built without RPC.
        RpcServerError: a server cannot be used.
    """
    if rpc_servers:
        return tuple(library.device_info(handle) for handle in rpc.devices_for_layers(rpc_servers) if handle)
    found = library.gpu_devices()
    own = tuple(device for device in found if device.kind == "gpu")
    return own or found
