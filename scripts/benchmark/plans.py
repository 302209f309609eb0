"""The speed of static plans, position maps and LogN, against no plan and against the unpatched library."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.bench import NO_PLAN, UNPATCHED, Bench
from benchmark.jobs import OURS, STOCK, Setup, SpeedJob
from benchmark.outcome import Outcome
from benchmark.page import table
from benchmark.ratios import Metric, decode_speed, middle, prefill_speed, ratio
from benchmark.rounds import Rounds, Variant, measure_in_turns
from ropewalk.wording.quantities import count

METHODS = ("dprope", "yarn", "extra-mpe", "dprope+logn")
_METRICS: tuple[tuple[str, Metric], ...] = (("prefill", prefill_speed), ("decode", decode_speed))


def measure_plans(
    bench: Bench, *, pairs: int, tokens: int, decode_tokens: int, methods: Sequence[str]
) -> Outcome:
    """Reads `tokens` and writes `decode_tokens`, with each plan and without, in `pairs` rounds."""

    def variant(name: str, library: str, method: str = "") -> Variant:
        return Variant(
            name, library, _job(bench.setup(tokens + decode_tokens, method), tokens, decode_tokens)
        )

    variants = [variant(NO_PLAN, OURS), *(variant(method, OURS, method) for method in methods)]
    if bench.against_stock:
        variants.insert(0, variant(UNPATCHED, STOCK))
    rounds = measure_in_turns(bench.libraries, variants, pairs, "Plans")
    intro = (
        f"{bench.where} {tokens} tokens read and {decode_tokens} written after them, flash attention off; "
        f"median and quartiles of the ratios of {count(rounds.finished, 'round')}. Above 1 is faster."
    )
    return Outcome(f"{intro}\n\n{plans_table(rounds)}", rounds.to_json(), rounds.complete)


def plans_table(rounds: Rounds) -> str:
    """A row for each variant: its speeds, and their ratios to those it is compared with."""
    names = list(rounds.runs)
    bases = [name for name in (UNPATCHED, NO_PLAN) if name in names]
    head = ["", *(f"{what}, tokens/s" for what, _ in _METRICS)]
    head += [f"{what} against {_article(base)}" for base in bases for what, _ in _METRICS]
    rows = []
    for name in names:
        row = [name, *(f"{middle(rounds, name, metric):.1f}" for _, metric in _METRICS)]
        for base in bases:
            compared = names.index(name) > names.index(base)
            row += [ratio(rounds, name, base, metric).text if compared else "" for _, metric in _METRICS]
        rows.append(row)
    return table(head, rows)


def _article(base: str) -> str:
    return "the unpatched library" if base == UNPATCHED else base


def _job(setup: Setup, tokens: int, decode_tokens: int) -> SpeedJob:
    return SpeedJob(setup, tokens, (tokens,), decode_tokens)
