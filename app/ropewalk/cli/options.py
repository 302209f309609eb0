"""Options that several verbs share, each group written once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import click

from ropewalk.cli.layer_count import LayerCount
from ropewalk.cli.rpc_addresses import rpc_addresses
from ropewalk.engine import EngineOptions, RpcAddress

KV_TYPES = ("f32", "f16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0")

Verb = Callable[..., None]


@dataclass(frozen=True)
class RunOptions:
    """How to run a model: the options of every verb that runs one.

    Attributes:
        threads: CPU threads; None for what the engine takes by itself.
        gpu_layers: layers to place on a GPU, -1 for all, None for as many as fit.
        flash_attn: whether to use flash attention.
        batch_size: tokens handed to the library at once.
        ubatch_size: tokens computed at once.
        kv_type: number type of the KV cache.
        seed: seed of whatever the verb draws.
        rpc: other machines to place layers on.
    """

    threads: int | None
    gpu_layers: int | None
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


_MODEL_OPTIONS = (
    click.option("--threads", type=click.IntRange(1), help="CPU threads [default: one per core]."),
    click.option(
        "--gpu-layers",
        type=LayerCount(),
        default="auto",
        metavar="auto|N",
        help="Layers on the GPU: as many as fit, or so many (-1: all) [default: auto].",
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
        gpu_layers: int | None,
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
