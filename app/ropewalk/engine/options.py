"""How a model is loaded and its context made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ropewalk.backend.rpc_server import RpcAddress
from ropewalk_plan.plan import ContextPlan


@dataclass(frozen=True)
class EngineOptions:
    """How a model is loaded and its context made.

    Attributes:
        n_ctx: tokens the context must hold, prompt and answer.
        threads: CPU threads; None for the physical cores available.
        gpu_layers: layers to keep on the GPU, where there is one; -1 for all, None for as many as fit.
        flash_attention: `auto` is off where only the CPU computes, unless the KV type needs it.
        batch_size: tokens handed to the library at once; progress is reported after each batch.
        ubatch_size: tokens computed at once, at most `batch_size`; the working memory grows with it.
        kv_type: type of the cached keys and values: f32, f16, q8_0, q5_1, q5_0, q4_1 or q4_0.
        rpc_servers: other machines (`ggml-rpc-server`) whose devices layers are placed on as on a GPU's.
        plan: a plan to execute in place of the file's own; None leaves the file's.
        n_sequences: texts held side by side; they share the room for `n_ctx` tokens, and what was copied from
            one to another takes its room once.
        n_scored: tokens that `Engine.score` computes at once, at most `batch_size`; the memory for their rows
            of logits counts as needed beside the context. 0 for as few as drafts need, which is slow.
        vocabulary_only: load no weights and make no context: the tokenizer, the template and the metadata.
    """

    n_ctx: int
    threads: int | None = None
    gpu_layers: int | None = None
    flash_attention: Literal["auto", "on", "off"] = "auto"
    batch_size: int = 512
    ubatch_size: int = 512
    kv_type: str = "f16"
    rpc_servers: tuple[RpcAddress, ...] = ()
    plan: ContextPlan | None = None
    n_sequences: int = 1
    n_scored: int = 0
    vocabulary_only: bool = False
