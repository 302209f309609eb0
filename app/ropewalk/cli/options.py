"""Options that several verbs share, each group written once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import click

from ropewalk.cli.rpc_addresses import rpc_addresses
from ropewalk.engine import EngineOptions, RpcAddress, SamplingOptions

KV_TYPES = ("f32", "f16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0")

Verb = Callable[..., None]


@dataclass(frozen=True)
class RunOptions:
    """How to run a model: the options of every verb that runs one.

    Attributes:
        threads: CPU threads; None for what the engine takes by itself.
        gpu_layers: layers to place on a GPU, -1 for all.
        flash_attn: whether to use flash attention.
        batch_size: tokens handed to the library at once.
        ubatch_size: tokens computed at once.
        kv_type: number type of the KV cache.
        seed: seed of whatever the verb draws.
        rpc: other machines to place layers on.
    """

    threads: int | None
    gpu_layers: int
    flash_attn: Literal["auto", "on", "off"]
    batch_size: int
    ubatch_size: int
    kv_type: str
    seed: int
    rpc: tuple[RpcAddress, ...] = ()

    def engine_options(self, n_ctx: int) -> EngineOptions:
        """The engine's options for a context of `n_ctx` tokens."""
        return EngineOptions(
            n_ctx=n_ctx,
            threads=self.threads,
            gpu_layers=self.gpu_layers,
            flash_attention=self.flash_attn,
            batch_size=self.batch_size,
            ubatch_size=min(self.ubatch_size, self.batch_size),
            kv_type=self.kv_type,
            rpc_servers=self.rpc,
        )

    def sampling(self, temperature: float) -> SamplingOptions:
        """Sampling at a temperature (0: greedy) with this seed."""
        return SamplingOptions(temperature=temperature, seed=self.seed)


_MODEL_OPTIONS = (
    click.option("--threads", type=click.IntRange(1), help="CPU threads [default: one per core]."),
    click.option(
        "--gpu-layers",
        type=click.IntRange(-1),
        default=-1,
        help="Layers on the GPU, -1 for all [default: -1].",
    ),
    click.option(
        "--rpc",
        metavar="HOST:PORT,...",
        callback=rpc_addresses,
        help="Other machines to spread the layers over, where `ropewalk rpc-server` runs.",
    ),
    click.option(
        "--flash-attn",
        type=click.Choice(["auto", "on", "off"]),
        default="auto",
        help="Flash attention [default: auto].",
    ),
    click.option(
        "--batch-size", type=click.IntRange(1), default=512, help="Tokens handed over at once [default: 512]."
    ),
    click.option(
        "--ubatch-size", type=click.IntRange(1), default=512, help="Tokens computed at once [default: 512]."
    ),
    click.option(
        "--kv-type",
        type=click.Choice(KV_TYPES),
        default="f16",
        help="Number type of the KV cache [default: f16].",
    ),
    click.option(
        "--seed",
        type=click.IntRange(0, 2**32 - 1),
        default=0,
        help="Seed of what is drawn at random [default: 0].",
    ),
)


def model_options(verb: Verb) -> Verb:
    """Give a verb the options of running a model; it receives them as `run`, a `RunOptions`."""

    @functools.wraps(verb)
    def with_run(
        *,
        threads: int | None,
        gpu_layers: int,
        rpc: tuple[RpcAddress, ...],
        flash_attn: Literal["auto", "on", "off"],
        batch_size: int,
        ubatch_size: int,
        kv_type: str,
        seed: int,
        **others: object,
    ) -> None:
        if rpc and gpu_layers == 0:
            raise click.UsageError(
                "--gpu-layers 0 leaves no layer for the machines of --rpc: leave one of the two out",
                click.get_current_context(),
            )
        run = RunOptions(threads, gpu_layers, flash_attn, batch_size, ubatch_size, kv_type, seed, rpc)
        verb(run=run, **others)

    decorated: Verb = with_run
    for option in reversed(_MODEL_OPTIONS):
        decorated = option(decorated)
    return decorated


def answer_options(longest: int) -> Callable[[Verb], Verb]:
    """The options of verbs that answer: `max_tokens` (by default `longest`), `temperature` and `beyond`."""

    def decorate(verb: Verb) -> Verb:
        for option in (
            click.option(
                "--beyond",
                is_flag=True,
                help="Go on where the text is longer than the model's target length.",
            ),
            click.option(
                "--temperature",
                type=click.FloatRange(0),
                default=0.0,
                show_default=True,
                help="0: the likeliest token each time.",
            ),
            click.option(
                "--max-tokens",
                type=click.IntRange(1),
                default=longest,
                show_default=True,
                help="Longest answer in tokens.",
            ),
        ):
            verb = option(verb)
        return verb

    return decorate
