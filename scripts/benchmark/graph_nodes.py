"""How many nodes the graphs of the library have, and of which operations."""

from __future__ import annotations

import ctypes
from collections import Counter
from dataclasses import dataclass

from llama_cpp import llama_cpp as capi

from benchmark.jobs import Setup
from benchmark.loaded_model import loaded_model

ROTATION = "ROPE"
"""ggml's name for the operation."""


@dataclass(frozen=True)
class GraphNodes:
    """The nodes of one graph by operation, views and permutations included."""

    operations: dict[str, int]

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.operations.values())

    @property
    def rotations(self) -> int:
        """Calls of ggml's rope."""
        return self.operations.get(ROTATION, 0)


def count_nodes(setup: Setup, prefill_tokens: int) -> tuple[GraphNodes, GraphNodes]:
    """The graphs of a batch of `prefill_tokens` and of one token after it, as the scheduler computes them."""
    names = _operation_names()
    counted: Counter[str] = Counter()

    def on_node(tensor: int, ask: bool, _: object) -> bool:
        if ask:
            counted[names(tensor).decode()] += 1
        return False

    with loaded_model(setup, on_node) as model:
        graphs = []
        for start, count in ((0, prefill_tokens), (prefill_tokens, 1)):
            counted.clear()
            model.decode(model.tokens(start, count), start)
            graphs.append(GraphNodes(dict(sorted(counted.items()))))
    return graphs[0], graphs[1]


def _operation_names() -> ctypes._NamedFuncPointer:
    """`ggml_op_desc` of the ggml that the library computes with."""
    function = capi._lib.ggml_op_desc  # libllama's own dependency: the loader finds it through its handle
    function.restype, function.argtypes = ctypes.c_char_p, [ctypes.c_void_p]
    return function  # type: ignore[no-any-return]  # llama_cpp has no types
