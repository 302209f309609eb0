"""How much memory there is on each device for a model, and how much of it is left alone."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Sequence

from ropewalk.backend import host
from ropewalk.backend.buffer_sizes import HOST
from ropewalk.backend.fit import Budget
from ropewalk.backend.library import DeviceInfo

_GIBIBYTE = 2**30

GPU_MARGIN, GPU_MARGIN_SHARE = _GIBIBYTE, 8
"""A GPU's kernels allocate besides the planned buffers (CUDA's pool for dequantized weights and for parts of
attention, cuBLAS), and its screen takes what it needs: upstream's own fitting leaves a gibibyte, and so does
this, but at most an eighth of the device."""

HOST_MARGIN, HOST_MARGIN_SHARE = _GIBIBYTE // 2, 16
"""Python, the vocabulary and the threads' buffers take some hundred megabytes of the host besides the planned
buffers, and the rest of the machine goes on: half a gibibyte, but at most a sixteenth of what is free."""


def budgets(
    gpus: Sequence[DeviceInfo], held_on: Callable[[str], int] = lambda _device: 0, *, exactly: bool = False
) -> tuple[Budget, ...]:
    """What may be filled on the host and on each GPU.

    Args:
        gpus: with what is free on them now.
        held_on: bytes of a device's that are to be released before they are needed, and count as free.
        exactly: leave no margin on the GPUs, where a person has counted the layers.
    """
    free = host.available_memory()
    margin = min(HOST_MARGIN, free // HOST_MARGIN_SHARE)
    return (Budget(HOST, free, margin), *(_of(gpu, held_on(gpu.name), free, exactly) for gpu in gpus))


def _of(gpu: DeviceInfo, held: int, host_free: int, exactly: bool) -> Budget:
    if gpu.memory_total == 0:  # it does not say; llama.cpp counts the host's memory then
        return Budget(gpu.name, host_free, shares_host=gpu.kind == "igpu")
    margin = 0 if exactly else min(GPU_MARGIN, gpu.memory_total // GPU_MARGIN_SHARE)
    return Budget(gpu.name, gpu.memory_free + held, margin, shares_host=_shares_host(gpu))


def _shares_host(gpu: DeviceInfo) -> bool:
    """Integrated GPUs, and Apple's, which ggml counts as others."""
    own = not gpu.name.startswith("RPC")
    apple = sys.platform == "darwin" and platform.machine() == "arm64"
    return own and (gpu.kind == "igpu" or apple)
