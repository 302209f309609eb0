"""A text without end: perplexity and memory along a stream, under a streaming plan and without one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from benchmark.bench import NO_PLAN, Bench
from benchmark.likelihoods import negative_log_likelihoods
from benchmark.outcome import Outcome
from benchmark.page import table
from benchmark.peak_memory import peak_bytes
from provision.failure import ProvisionError
from provision.progress import Progress
from ropewalk.backend.context import Context, ContextParams
from ropewalk.backend.model import Model
from ropewalk_plan import ContextPlan, GgufHeader, make_plan, rope_spec_from_gguf

STREAMING = "streaming"
_BATCH = 512
_PLAIN_TIMES_L = 2


@dataclass(frozen=True)
class Slice:
    """One part of a text that was read.

    Attributes:
        first: position of its first token; `tokens` how many it has.
        perplexity: exp of the mean negative log likelihood (nats) of its tokens, each given all before it.
        peak_bytes: most memory that the process had held when the part was read.
    """

    first: int
    tokens: int
    perplexity: float
    peak_bytes: int


def measure_stream(
    bench: Bench, text: str, *, window: int, sinks: int, target_length: int, times: int
) -> Outcome:
    """Reads `times` the target length L' of a text under a streaming plan, and a little of it without one."""
    spec = rope_spec_from_gguf(GgufHeader.read(bench.model))
    options = {"window": str(window), "sinks": str(sinks)}
    plan = make_plan(spec, STREAMING, target_length, options=options)
    plain_length = _PLAIN_TIMES_L * spec.train_length
    model = Model.load(bench.model, gpu_layers=0)
    try:
        length = times * target_length
        tokens = model.vocabulary.tokenize(text)[:length]
        if len(tokens) < length:
            raise ProvisionError(
                f"the text has {len(tokens):,} tokens, and {length:,} are to be read: name more files"
            )
        with Progress("Reading a stream") as progress:
            total = float(len(tokens) + plain_length)

            def read(plan: ContextPlan | None, count: int, done: int) -> list[Slice]:
                model.set_plan(plan)
                return read_slices(
                    model,
                    tokens[:count],
                    target_length,
                    bench.threads,
                    lambda position: progress.update(done + position, total),
                )

            streamed = read(plan, len(tokens), 0)
            plain = read(None, plain_length, len(tokens))
    finally:
        model.close()
    intro = (
        f"{bench.where} L = {spec.train_length:,}, L' = {target_length:,}: {sinks} sinks and a window "
        f"of {window:,} tokens in every layer; {len(tokens):,} tokens read, flash attention off, F16 keys "
        "and values. Perplexity by part of the text, and the most memory that the process had held by then."
    )
    record = {"streaming": [asdict(part) for part in streamed], "plain": [asdict(part) for part in plain]}
    return Outcome(f"{intro}\n\n{stream_table(streamed, plain)}", record)


def read_slices(
    model: Model, tokens: Sequence[int], size: int, threads: int, on_position: Callable[[int], None]
) -> list[Slice]:
    """Reads tokens into a new context under the model's plan, in parts of `size`."""
    parts = []
    context = Context(model, ContextParams(len(tokens), _BATCH, _BATCH, _BATCH, threads, "off"))
    try:
        losses: list[float] = []
        first = 0
        for start in range(0, len(tokens), _BATCH):
            batch = list(tokens[start : start + _BATCH])
            context.decode(batch, all_logits=True)
            following = tokens[start + 1 : start + 1 + len(batch)]
            losses.extend(negative_log_likelihoods(context.logits()[: len(following)], following))
            end = start + len(batch)
            on_position(end)
            if end % size == 0 or end == len(tokens):
                parts.append(Slice(first, end - first, math.exp(float(np.mean(losses))), peak_bytes()))
                losses, first = [], end
    finally:
        context.close()
    return parts


def stream_table(streamed: Sequence[Slice], plain: Sequence[Slice]) -> str:
    """A row for each part of the text."""
    without = {part.first: part for part in plain}
    rows = []
    for part in streamed:
        other = without.get(part.first)
        rows.append(
            [
                f"{part.first:,} to {part.first + part.tokens - 1:,}",
                f"{part.perplexity:.2f}",
                f"{part.peak_bytes / 1e6:,.0f} MB",
                _without(part, other) if other else "",
            ]
        )
    return table(["tokens", STREAMING, "memory", f"perplexity, {NO_PLAN}"], rows)


def _without(part: Slice, other: Slice) -> str:
    shorter = "" if other.tokens == part.tokens else f" (its first {other.tokens:,})"
    return f"{other.perplexity:.2f}{shorter}"
