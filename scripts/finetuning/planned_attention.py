"""Attention as a plan says: LogN on queries and windows by layer, through transformers' own registry."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from ropewalk_plan import ContextPlan

Attended = tuple[torch.Tensor, torch.Tensor | None]
Attention = Callable[..., Attended]


def register_attention(plan: ContextPlan) -> str:
    """Register an attention that executes `plan`, and name it: a value of `attn_implementation`.

    Sequences stand at positions from 0 without padding before them, and queries are the last of their keys.
    """
    name = f"ropewalk-{hashlib.sha256(repr(plan).encode()).hexdigest()[:16]}"
    AttentionInterface.register(name, _attention(plan))
    AttentionMaskInterface.register(name, sdpa_mask)
    return name


def logn_factors(length: int, positions: torch.Tensor) -> torch.Tensor:
    """LogN (Su 2023): `max(1, log_L(m + 1))` at positions m from 0."""
    return (torch.log(positions.double() + 1) / math.log(length)).clamp(min=1.0).float()


def visible(window: int, sinks: int, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """Which keys each query sees, [queries, keys]: its last `window` and the first `sinks`; 0 for all."""
    back = queries[:, None] - keys[None, :]
    near = back < window if window else torch.ones_like(back, dtype=torch.bool)
    return (back >= 0) & (near | (keys[None, :] < sinks))


def _attention(plan: ContextPlan) -> Attention:
    def attend(
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        **options: object,
    ) -> Attended:
        keys = torch.arange(key.shape[2], device=key.device)
        queries = keys[key.shape[2] - query.shape[2] :]
        if plan.logn_length:
            query = query * logn_factors(plan.logn_length, queries)[:, None].to(query.dtype)
        window = plan.windows[module.layer_idx] if plan.windows else 0
        if window:
            attention_mask = visible(window, plan.sinks, queries, keys)[None, None]
        attended: Attended = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return attended

    return attend
