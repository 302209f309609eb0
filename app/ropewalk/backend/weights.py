"""Where a model's weights are kept, told from its file and the devices of its layers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from ropewalk.backend.buffer_sizes import HOST
from ropewalk_plan.gguf_header import GgufHeader

_LAYER = re.compile(r"(?:^|\.)blk\.(\d+)\.")


def weight_bytes(header: GgufHeader, layer_devices: Sequence[str]) -> dict[str, int]:
    """Bytes of the weights on each device.

    Layers are on their devices and the output's tensors on its own; the rest, of which the token embeddings
    are nearly all, is always the host's (llama-model.cpp). Where an output on a GPU is the embeddings over
    again, it has a copy of them.

    Args:
        header: the model.
        layer_devices: the device of each layer, and last that of the output (`Placed.layer_devices`).
    """
    taken: Counter[str] = Counter({HOST: 0})
    embeddings, has_output = 0, False
    output_device = layer_devices[-1] if layer_devices else HOST
    for file in header.files:
        for tensor in file.tensors.values():
            size = tensor.n_bytes or 0
            layer = _LAYER.search(tensor.name)
            if layer is not None:
                number = int(layer[1])
                taken[layer_devices[number] if number < len(layer_devices) - 1 else HOST] += size
            elif tensor.name.startswith("output"):
                taken[output_device] += size
                has_output = has_output or tensor.name == "output.weight"
            else:
                taken[HOST] += size
                embeddings += size if tensor.name == "token_embd.weight" else 0
    if not has_output and output_device != HOST:
        taken[output_device] += embeddings
    return dict(taken)
