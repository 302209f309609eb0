"""Layer-wise windows at depth: prefill, decode and memory, and how much of what arithmetic allows."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from benchmark.bench import NO_PLAN, UNPATCHED, Bench
from benchmark.depth_cost import (
    DepthCost,
    Layers,
    allowed_speed_up,
    cells_of,
    fit,
    medians_by_depth,
    round_up,
    seconds_for,
)
from benchmark.jobs import OURS, STOCK, Piece, SpeedJob
from benchmark.outcome import Outcome
from benchmark.page import table
from benchmark.ratios import Metric, decode_speed, middle, prefill_speed, ratio
from benchmark.rounds import Rounds, Variant, measure_in_turns
from benchmark.window_plan import WINDOWS, WindowPlan
from provision.failure import USAGE, ProvisionError
from ropewalk.wording.quantities import count

_STOPS = 5  # depths at which the cost of a written token is measured
_MEBIBYTE = 1 << 20


def measure_windows(
    bench: Bench, *, pairs: int, tokens: int, decode_tokens: int, flash: tuple[bool, ...], plan: WindowPlan
) -> Outcome:
    """Fills a context of `tokens` with and without the windows, in `pairs` rounds each.

    Args:
        bench: where.
        pairs: rounds.
        tokens: of context, the written ones included.
        decode_tokens: written at the end.
        flash: with which settings of flash attention.
        plan: the windows.
    """
    base = UNPATCHED if bench.against_stock else NO_PLAN
    texts: list[str] = []
    record: dict[str, Any] = {}
    complete = True
    for on in flash:
        job = depth_job(bench, tokens, decode_tokens, flash_attention=on)
        windowed = depth_job(bench, tokens, decode_tokens, flash_attention=on, plan=plan)
        variants = [
            Variant(base, STOCK if bench.against_stock else OURS, job),
            Variant(WINDOWS, OURS, windowed),
        ]
        name = f"flash attention {'on' if on else 'off'}"
        try:
            rounds = measure_in_turns(bench.libraries, variants, pairs, f"Windows, {name}")
        except KeyboardInterrupt:
            if not texts:
                raise
            complete = False  # what was measured with the other setting is kept
            break
        setup = job.setup
        whole = Layers((setup.n_ctx,) * plan.n_layer)
        layers = plan.layers(setup.n_ctx, setup.n_ubatch)
        texts.append(
            f"**{name.capitalize()}**, {count(rounds.finished, 'round')}:\n\n"
            + report(rounds, base, whole, layers)
        )
        record[name] = {**rounds.to_json(), "arithmetic": arithmetic(rounds, base, whole, layers)}
        complete = complete and rounds.complete
        if not complete:
            break
    intro = f"{bench.where} A context of {round_up(tokens):,} tokens; {plan.sentence}."
    return Outcome("\n\n".join([intro, *texts]), record, complete)


def depth_job(
    bench: Bench, tokens: int, decode_tokens: int, *, flash_attention: bool, plan: WindowPlan | None = None
) -> SpeedJob:
    """Fills a context, and writes at several depths.

    Raises:
        ProvisionError: there is no room for several depths.
    """
    target = max(bench.train_length, tokens)
    setup = bench.setup(
        tokens,
        WINDOWS if plan else "",
        target,
        plan.options if plan else None,
        flash_attention=flash_attention,
    )
    read = tokens - decode_tokens - (_STOPS - 1) * max(1, decode_tokens // 4)
    if decode_tokens < 1 or read < _STOPS * setup.n_ubatch:
        raise ProvisionError(
            f"--tokens is {tokens}; it must be at least {_STOPS * setup.n_ubatch + 2 * decode_tokens}", USAGE
        )
    chunks = read // setup.n_ubatch
    stops = [chunks * (i + 1) // _STOPS * setup.n_ubatch for i in range(_STOPS - 1)]
    return SpeedJob(setup, read, (*stops, read), decode_tokens)


def costs(rounds: Rounds, name: str) -> tuple[DepthCost, DepthCost, list[Piece], list[Piece]]:
    """A variant's cost per depth, of tokens that are read and that are written, and the pieces behind them.

    Chunks of fewer tokens than the largest are left out: they cost more per token.
    """
    prefill = medians_by_depth([run.prefill for run in rounds.runs[name]])
    decode = medians_by_depth([run.decode for run in rounds.runs[name]])
    size = max(piece.tokens for piece in prefill)
    full = [piece for piece in prefill if piece.tokens == size]
    endless = prefill[-1].depth + size + decode[-1].tokens + (1 << 20)
    lines = [
        fit([(cells_of(piece, endless), piece.seconds_per_token) for piece in pieces])
        for pieces in (full, decode)
    ]
    return lines[0], lines[1], full, decode


def arithmetic(rounds: Rounds, base: str, whole: Layers, layers: Layers) -> dict[str, Any]:
    """What the base's cost per depth allows the windows, and what they do, in numbers."""
    prefill, decode, chunks, written = costs(rounds, base)
    own = medians_by_depth([run.prefill for run in rounds.runs[WINDOWS]])
    own_chunks = [piece for piece in own if piece.tokens == chunks[0].tokens]
    own_written = medians_by_depth([run.decode for run in rounds.runs[WINDOWS]])
    last = written[-1:]
    return {
        "prefill_cost": asdict(prefill),
        "decode_cost": asdict(decode),
        "prefill_allowed": allowed_speed_up(prefill, whole, layers, chunks),
        "decode_allowed": allowed_speed_up(decode, whole, layers, last),
        "kv_share_allowed": layers.share_of(whole.caches[0]),
        "prefill_seconds_allowed": seconds_for(prefill, layers, chunks),
        "prefill_seconds": sum(piece.seconds for piece in own_chunks),
        "prefill_own_cost": asdict(fit([(layers.mean_cells(p), p.seconds_per_token) for p in own_chunks])),
        "decode_seconds_allowed": seconds_for(decode, layers, last),
        "decode_seconds": own_written[-1].seconds,
        "decode_own_cost": asdict(fit([(layers.mean_cells(p), p.seconds_per_token) for p in own_written])),
    }


def report(rounds: Rounds, base: str, whole: Layers, layers: Layers) -> str:
    """The table, and the arithmetic in words."""
    numbers = arithmetic(rounds, base, whole, layers)
    rows = []
    metrics: tuple[tuple[str, str, Metric], ...] = (
        ("prefill, tokens/s", "prefill", prefill_speed),
        ("decode at the end, tokens/s", "decode", decode_speed),
    )
    for what, key, metric in metrics:
        measured, allowed = ratio(rounds, WINDOWS, base, metric), numbers[f"{key}_allowed"]
        speeds = [f"{middle(rounds, name, metric):.1f}" for name in (base, WINDOWS)]
        rows.append([what, *speeds, measured.text, f"{allowed:.3f}", f"{measured.median / allowed:.0%}"])
    sizes = [rounds.runs[name][0].kv_bytes for name in (base, WINDOWS)]
    share, allowed = sizes[1] / sizes[0], numbers["kv_share_allowed"]
    mebibytes = [f"{size / _MEBIBYTE:.1f}" for size in sizes]
    rows.append(["KV caches, MiB", *mebibytes, f"{share:.3f}", f"{allowed:.3f}", f"{allowed / share:.0%}"])
    head = ["", base, WINDOWS, "ratio", "arithmetic allows", "reached"]
    lines = [table(head, rows), ""]
    lines += [
        f"A token that is {what} takes {cost_text(numbers[f'{key}_cost'])} ({base}) and "
        f"{cost_text(numbers[f'{key}_own_cost'])} (windows), n the mean cells of a layer: "
        f"{numbers[f'{key}_seconds']:.2f} s where {numbers[f'{key}_seconds_allowed']:.2f} s are allowed."
        for what, key in (("read", "prefill"), ("written", "decode"))
    ]
    return "\n".join(lines)


def cost_text(cost: dict[str, float]) -> str:
    """`8.10 ms + 0.95 us n`."""
    return f"{cost['fixed'] * 1e3:.2f} ms + {cost['per_cell'] * 1e6:.3f} us n"
