"""Flash attention on and off, by depth: which is the faster one here."""

from __future__ import annotations

from benchmark.bench import NO_PLAN, Bench
from benchmark.depth_cost import medians_by_depth, round_up
from benchmark.jobs import OURS, Piece
from benchmark.outcome import Outcome
from benchmark.page import table
from benchmark.ratios import decode_speed, middle, prefill_speed, ratio
from benchmark.rounds import Rounds, Variant, measure_in_turns
from benchmark.windows import depth_job
from ropewalk.wording.quantities import count

OFF, ON = "off", "on"


def measure_flash_attention(bench: Bench, *, pairs: int, tokens: int, decode_tokens: int) -> Outcome:
    """Fills a context of `tokens` with flash attention on and off, without a plan, in `pairs` rounds."""
    variants = [
        Variant(name, OURS, depth_job(bench, tokens, decode_tokens, flash_attention=name == ON))
        for name in (OFF, ON)
    ]
    rounds = measure_in_turns(bench.libraries, variants, pairs, "Flash attention")
    intro = (
        f"{bench.where} {NO_PLAN.capitalize()}, a context of {round_up(tokens):,} tokens, F16 keys "
        f"and values; medians of {count(rounds.finished, 'round')}, in tokens/s. Above 1, flash attention is "
        "the faster one."
    )
    return Outcome(f"{intro}\n\n{flash_table(rounds)}", rounds.to_json(), rounds.complete)


def flash_table(rounds: Rounds) -> str:
    """Reading as a whole, its chunk at each depth where tokens were written, and writing there."""
    rows = [
        [
            f"prefill, all of it{suffix}",
            *(f"{middle(rounds, name, metric):.1f}" for name in (OFF, ON)),
            ratio(rounds, ON, OFF, metric).text,
        ]
        for suffix, metric in (("", prefill_speed), ("; decode at the end", decode_speed))
    ]
    rows[1][0] = "decode at the end"
    prefill = {name: medians_by_depth([run.prefill for run in rounds.runs[name]]) for name in (OFF, ON)}
    decode = {name: medians_by_depth([run.decode for run in rounds.runs[name]]) for name in (OFF, ON)}
    size = max(piece.tokens for piece in prefill[OFF])
    for i, stop in enumerate(decode[OFF]):
        chunk = max(
            (j for j, p in enumerate(prefill[OFF]) if p.depth < stop.depth and p.tokens == size), default=0
        )
        rows.append(_at_depth("prefill", [prefill[name][chunk] for name in (OFF, ON)]))
        rows.append(_at_depth("decode", [decode[name][i] for name in (OFF, ON)]))
    return table(["", OFF, ON, "on against off"], rows)


def _at_depth(what: str, pieces: list[Piece]) -> list[str]:
    speeds = [1 / piece.seconds_per_token for piece in pieces]
    numbers = [f"{speed:.1f}" for speed in speeds]
    return [f"{what} at {pieces[0].depth:,}", *numbers, f"{speeds[1] / speeds[0]:.3f}"]
