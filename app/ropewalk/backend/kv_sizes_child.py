"""How large KV caches would be, asked of the library in a process of its own: run by its path.

A damaged file can make native code end its process. The request is what `KvRequest` says; the answer is one
message: `sizes` (by KV type and length, null for what the library does not cache), and `plain`, the same
without windows where the plan has some, or `reason`, why there are none.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

from ropewalk.backend import library
from ropewalk.backend.context_memory import heads_are_blocks
from ropewalk.backend.context_params import UNQUANTIZED, ContextParams
from ropewalk.backend.errors import BackendError
from ropewalk.backend.estimates import cache_bytes
from ropewalk.backend.model import Model

Sizes = dict[str, list[int | None]]


class KvRequest(TypedDict):
    """What is asked.

    Attributes:
        path: the model.
        lengths: context lengths in tokens.
        kv_types: names of cache types.
        windows: whether to tell the sizes without windows too.
    """

    path: str
    lengths: list[int]
    kv_types: list[str]
    windows: bool


def main(request: KvRequest, report: Callable[[dict[str, Any]], None]) -> None:
    """Answer a request."""
    try:
        report(_answer(request))
    except BackendError as error:
        report({"reason": str(error)})


def _answer(request: KvRequest) -> dict[str, Any]:
    library.require_patched("The size of a KV cache")
    model = Model.load(Path(request["path"]), gpu_layers=0, without_weights=True)
    try:
        sizes = _sizes(model, request)
        if sizes is None:
            return {
                "reason": f"the memory of a {model.architecture} model is not made of keys and values alone, "
                "and its size is known only once there is a context"
            }
        plain: Sizes | None = None
        if request["windows"]:
            model.set_plan(None)
            plain = _sizes(model, request)
        return {"sizes": sizes, "plain": plain}
    finally:
        model.close()


def _sizes(model: Model, request: KvRequest) -> Sizes | None:
    """By KV type; None where the library does not tell them for this model."""
    sizes: Sizes = {}
    for kv_type in request["kv_types"]:
        if kv_type not in UNQUANTIZED and not heads_are_blocks(model):
            sizes[kv_type] = [None] * len(request["lengths"])
            continue
        told = [cache_bytes(model, ContextParams(n_ctx=n, kv_type=kv_type)) for n in request["lengths"]]
        if None in told:
            return None
        sizes[kv_type] = told
    return sizes
