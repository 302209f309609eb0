"""One run's speed on a device, in a process of its own: `python -m checks.gpu_speed MODEL --depth N ...`.

Prints a JSON object: tokens read per second up to the depth, and written per second there.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from llama_cpp import llama_cpp as capi

from ropewalk.backend import context_plan, library
from ropewalk_plan import GgufHeader, make_plan, rope_spec_from_gguf

_BATCH = 2048
_MULTIPLE = 256  # of which a context's length is one


def main() -> int:
    """Measure one run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--depth", type=int, required=True)
    parser.add_argument("--decode", type=int, required=True)
    parser.add_argument("--gpu-layers", type=int, required=True)
    parser.add_argument("--method", default="")
    given = parser.parse_args()
    library.initialize()
    parameters = capi.llama_model_default_params()
    parameters.n_gpu_layers = given.gpu_layers
    model = capi.llama_model_load_from_file(str(given.model).encode(), parameters)
    if not model:
        print(f"{given.model.name} cannot be loaded", file=sys.stderr)
        return 1
    length = given.depth + given.decode
    if given.method:
        spec = rope_spec_from_gguf(GgufHeader.read(given.model))
        target = max(length, 2 * spec.train_length)
        context_plan.set_plan(model, make_plan(spec, given.method, target))
    native = capi.llama_context_default_params()
    native.n_ctx = -(-(length + 1) // _MULTIPLE) * _MULTIPLE
    native.n_batch = min(_BATCH, native.n_ctx)
    native.no_perf = True
    context = capi.llama_init_from_model(model, native)
    if not context:
        print(f"no context of {native.n_ctx} tokens of {given.model.name}", file=sys.stderr)
        return 1
    n_vocab = capi.llama_vocab_n_tokens(capi.llama_model_get_vocab(model))
    tokens = [int(token) for token in np.random.default_rng(0).integers(0, n_vocab, length)]
    for count in (min(native.n_batch, given.depth), 1):  # kernels are compiled or loaded at their first use
        _decode(context, tokens[:count], 0)
        capi.llama_memory_clear(capi.llama_get_memory(context), True)
    starts = range(0, given.depth, native.n_batch)
    begin = time.perf_counter()
    for start in starts:
        _decode(context, tokens[start : min(start + native.n_batch, given.depth)], start)
    read = time.perf_counter()
    for position in range(given.depth, length):
        _decode(context, tokens[position : position + 1], position)
    written = time.perf_counter()
    print(json.dumps({"prefill": given.depth / (read - begin), "decode": given.decode / (written - read)}))
    return 0


def _decode(context: int, tokens: list[int], start: int) -> None:
    batch = capi.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
        batch.token[i], batch.pos[i], batch.logits[i] = token, start + i, i == len(tokens) - 1
        batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
    status = capi.llama_decode(context, batch)
    capi.llama_synchronize(context)
    capi.llama_batch_free(batch)
    if status != 0:
        sys.exit(f"llama_decode returned {status} at position {start}")


if __name__ == "__main__":
    sys.exit(main())
