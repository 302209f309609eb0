"""A `ContextPlan` in words for people, and as plain JSON values for programs."""

from __future__ import annotations

from typing import Any

from ropewalk.wording.quantities import count, ranges, short_length
from ropewalk_plan import ContextPlan, PositionKind
from ropewalk_plan.options_text import is_kept
from ropewalk_plan.streaming import stream_block

_MICRO_BATCH = 512  # as the engine has it
_CELLS = 256  # to a multiple of which the library rounds a cache up


def badge(plan: ContextPlan | None, train_length: int) -> str:
    """A plan in a few characters: `dprope 8k -> 16k`, or `plain 8k` where there is none."""
    if plan is None:
        return f"plain {short_length(train_length)}"
    return f"{plan.method} {short_length(plan.train_length)} → {short_length(plan.target_length)}"


def where_it_runs(plan: ContextPlan, native: bool) -> str:
    """What a plan being native or not means for the person who has the file."""
    if native:
        return "stock llama.cpp, Ollama and LM Studio, extended"
    if is_kept(plan):  # llama.cpp's converter may have said a part of it
        return "the patched library; elsewhere with as much of it as llama.cpp's own keys say"
    return "the patched library; elsewhere unextended, and right up to the train length"


def plan_lines(plan: ContextPlan) -> list[tuple[str, str]]:
    """What a plan does, as (label, sentence) pairs; parts that the plan leaves alone are left out."""
    lines = [
        ("method", plan.method),
        *([("options", plan.options.replace(",", ", "))] if plan.options else []),
        ("train length", count(plan.train_length, "token")),
        ("target length", f"{count(plan.target_length, 'token')} ({plan.scale:g} times)"),
    ]
    if plan.schedule:
        lines.append(("frequencies", _frequencies(plan)))
    if len(plan.schedule) > 1:
        steps = ", ".join(f"{step.up_to_length:,}" for step in plan.schedule)
        lines.append(("schedule", f"{len(plan.schedule)} steps, for sequences up to {steps} tokens"))
    if plan.attention_factor != 1.0:
        lines.append(("attention factor", f"{plan.attention_factor:.6g}"))
    if plan.rope_layers is not None:
        lines.append(("layers", ranges(plan.rope_layers)))
    if plan.position_map.kind is not PositionKind.IDENTITY:
        lines.append(("position map", _position_map(plan)))
    if plan.logn_length:
        lines.append(("LogN", f"queries past {plan.logn_length:,} tokens are multiplied by log_L(m + 1)"))
    if any(plan.windows):
        lines += [("windows", _windows(plan)), ("KV cache", _kv_cache(plan))]
    return lines


def plan_json(plan: ContextPlan, native: bool, native_reason: str | None = None) -> dict[str, Any]:
    """A plan as JSON values: all of its numbers, in the plan's own words."""
    facts: dict[str, Any] = {
        "method": plan.method,
        "options": plan.options,
        "train_length": plan.train_length,
        "target_length": plan.target_length,
        "native": native,
    }
    if native_reason is not None:
        facts["native_reason"] = native_reason
    return facts | {
        "schedule": [
            {
                "up_to_length": step.up_to_length,
                "frequency_factors": list(step.frequency_factors),
                "attention_factor": step.attention_factor,
            }
            for step in plan.schedule
        ],
        "rope_layers": None if plan.rope_layers is None else list(plan.rope_layers),
        "position_map": {
            "kind": plan.position_map.kind.value,
            "period": plan.position_map.period,
            "first_pair": plan.position_map.first_pair,
        },
        "logn_length": plan.logn_length,
        "windows": list(plan.windows),
        "sinks": plan.sinks,
        "streaming": plan.streaming,
    }


def _frequencies(plan: ContextPlan) -> str:
    changed = [factor for factor in plan.frequency_factors if factor != 1.0]
    if not changed:
        return f"all {count(plan.n_pairs, 'pair')} as trained"
    low, high = min(changed), max(changed)
    by = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
    return f"{len(changed)} of {count(plan.n_pairs, 'pair')} interpolated (frequency divided by {by})"


def _position_map(plan: ContextPlan) -> str:
    position_map = plan.position_map
    pairs = f"pairs {position_map.first_pair} to {plan.n_pairs - 1}"
    return f"{position_map.kind.value}, period {count(position_map.period, 'token')}, for {pairs}"


def _windows(plan: ContextPlan) -> str:
    widths = [window for window in plan.windows if window]
    low, high = min(widths), max(widths)
    width = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    text = f"{len(widths)} of {count(len(plan.windows), 'layer')} see the last {width} tokens"
    if plan.sinks:
        text += f" and the first {plan.sinks:,}"
    if plan.streaming:
        text += f", streaming in blocks of {count(stream_block(plan.windows), 'token')}"
    return text


def _kv_cache(plan: ContextPlan) -> str:
    """What windows leave of it, with as many keys in each layer; a cache has room for a micro-batch too."""
    if plan.streaming:
        return f"{count(max(plan.windows) + plan.sinks, 'token')} in each layer, however long the text"
    length = plan.target_length
    needed = [-(-(window + plan.sinks + _MICRO_BATCH) // _CELLS) * _CELLS for window in plan.windows]
    held = [
        min(length, cells) if window else length for window, cells in zip(plan.windows, needed, strict=True)
    ]
    share = sum(held) / (len(held) * length)
    return f"at {count(length, 'token')} about {100 * share:.0f}% of one without windows"
