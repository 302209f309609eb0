"""What a loaded model takes, by device. Runs in the model process."""

from __future__ import annotations

from ropewalk.backend import host, library
from ropewalk.backend.buffer_sizes import HOST, ContextBuffers
from ropewalk.backend.model import Model
from ropewalk.backend.weights import weight_bytes
from ropewalk.engine.results import DeviceMemory, MemoryUse


def memory_use(model: Model, buffers: ContextBuffers | None) -> MemoryUse:
    """What a model and its context take.

    Args:
        model: loaded.
        buffers: of its context, as the library told them when it was made; None while there is none.
    """
    weights = weight_bytes(model.header, model.placed.layer_devices)
    buffers = buffers or ContextBuffers()
    free = {gpu.name: gpu.memory_free for gpu in (*model.placed.gpus, *library.gpu_devices())}
    free[HOST] = host.free_memory()
    return MemoryUse(
        tuple(
            DeviceMemory(
                name,
                weights.get(name, 0),
                buffers.kv_cache.get(name, 0),
                buffers.compute.get(name, 0),
                free[name],
            )
            for name in (HOST, *(gpu.name for gpu in model.placed.gpus))
        ),
        host.resident_memory(),
    )
