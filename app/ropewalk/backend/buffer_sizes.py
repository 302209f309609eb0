"""What a context's buffers take on each device, as the library says: before it allocates them, or after.

A model loaded without weights (`no_alloc`) makes contexts that build their worst-case graphs and allocate
nothing: of the working memory the log then tells the size that there would be (llama-context.cpp,
`backend_buf_exp_size`), and of each KV cache the size of all its layers (llama-kv-cache.cpp). Measuring takes
milliseconds, and 50 bytes for each cell.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from llama_cpp import llama_cpp as capi

from ropewalk.backend import native_log
from ropewalk.backend.library import DeviceInfo

Native: TypeAlias = Any  # structs of llama_cpp, which has no types

HOST = "CPU"
"""ggml's name of the host, whose memory is also that of buffers a GPU reads from (`CUDA_Host`)."""

_MEBIBYTE = 2**20
_SIZE = r" *= *([\d.]+) MiB"
_COMPUTE = re.compile(r"^\w+: +(\S+)(?: compute|  ?output) buffer size" + _SIZE)
_CACHE = re.compile(r"^\w+: +(\S+) (?:KV|RS) buffer size" + _SIZE)
_LAYER = re.compile(r"^llama_kv_cache\w*: layer +(\d+): dev = (.+)$")
_WHOLE_CACHE = re.compile(r"^llama_kv_cache\w*: size" + _SIZE + r" \( *(\d+) cells,.* K \(")
WANTED = re.compile("|".join(f"(?:{line.pattern})" for line in (_COMPUTE, _CACHE, _LAYER, _WHOLE_CACHE)))
"""The log's lines that `read_buffers` reads."""

_RPC_BUFFER = re.compile(r"RPC(\d+)\[(.+)\]$")
_OWN_BUFFER = re.compile(r"_(?:Private|Mapped|Split)$")


@dataclass(frozen=True)
class ContextBuffers:
    """What a context takes, in bytes by device; the log rounds each size to 5 KB.

    Attributes:
        kv_cache: keys and values, and states of recurrent layers.
        compute: working memory, and the rows of logits.
        n_cells: cells of each cache.
    """

    kv_cache: Mapping[str, int] = field(default_factory=dict)
    compute: Mapping[str, int] = field(default_factory=dict)
    n_cells: tuple[int, ...] = ()

    def total(self, device: str) -> int:
        """Bytes on a device."""
        return self.kv_cache.get(device, 0) + self.compute.get(device, 0)


def measure(
    model: int, native: Native, gpus: Sequence[DeviceInfo], layer_shares: Sequence[float] = ()
) -> ContextBuffers | None:
    """What a context would take; None where the library makes none with these parameters.

    Args:
        model: a `llama_model *` that was loaded without weights.
        native: a `llama_context_params`.
        gpus: what layers are spread over.
        layer_shares: see `read_buffers`.
    """
    with native_log.fresh() as log, log.collecting(WANTED) as lines:
        context = capi.llama_init_from_model(model, native)
        if not context:
            return None
        capi.llama_free(context)
    return read_buffers(lines, gpus, layer_shares)


def read_buffers(
    lines: Iterable[str], gpus: Sequence[DeviceInfo], layer_shares: Sequence[float] = ()
) -> ContextBuffers:
    """What the log of a context that was made says of its buffers.

    Args:
        lines: in their order; others than those `WANTED` are passed over.
        gpus: what layers are spread over; all other buffers are the host's.
        layer_shares: how much of a cache each layer takes in comparison to the others, where caches of layers
            on several devices were not allocated; by default they are alike.
    """
    cache: Counter[str] = Counter()
    compute: Counter[str] = Counter()
    n_cells: list[int] = []
    allocated, layers = 0, list[tuple[int, str]]()
    for line in lines:
        if found := _COMPUTE.search(line):
            compute[device_of(found[1], gpus)] += _bytes(found[2])
        elif found := _CACHE.search(line):
            size = _bytes(found[2])
            cache[device_of(found[1], gpus)] += size
            allocated += size
        elif found := _LAYER.search(line):
            layers.append((int(found[1]), found[2]))
        elif found := _WHOLE_CACHE.search(line):
            if not allocated:
                cache.update(_spread(_bytes(found[1]), layers, layer_shares, gpus))
            n_cells.append(int(found[2]))
            allocated, layers = 0, []
    return ContextBuffers(dict(cache), dict(compute), tuple(n_cells))


def device_of(buffer: str, gpus: Sequence[DeviceInfo]) -> str:
    """The device that a buffer of a name belongs to: a GPU's by ggml's name, or the host."""
    remote = _RPC_BUFFER.match(buffer)
    if remote:
        served = [gpu.name for gpu in gpus if gpu.description == remote[2]]
        return served[int(remote[1])] if int(remote[1]) < len(served) else HOST
    name = _OWN_BUFFER.sub("", buffer)
    return name if any(gpu.name == name for gpu in gpus) else HOST


def _spread(
    size: int, layers: Sequence[tuple[int, str]], shares: Sequence[float], gpus: Sequence[DeviceInfo]
) -> Counter[str]:
    """A cache's bytes by device, as its layers take them."""
    weights: Counter[str] = Counter()
    for layer, device in layers:
        share = shares[layer] if layer < len(shares) else 1.0
        weights[device if any(gpu.name == device for gpu in gpus) else HOST] += share  # type: ignore[assignment]
    total = sum(weights.values())
    if not total:
        return Counter({HOST: size})
    return Counter({device: round(size * weight / total) for device, weight in weights.items()})


def _bytes(mebibytes: str) -> int:
    return round(float(mebibytes) * _MEBIBYTE)
