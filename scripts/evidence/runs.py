"""The measurements behind docs/results.md, as `ropewalk` commands that each write one results file."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass

LADDER = (
    "dynamic-ntk:form=qwen",
    "dynamic-ntk+logn:form=qwen",
    "dynamic-ntk+logn+windows:form=qwen:rule=layer-wise:windows=2048",
)
"""Qwen's recipe, rung by rung (Bai et al. 2023, Section 2.5); it gives no widths."""

TRAINING_FREE = (
    "none",
    "dprope",
    "dprope:threshold=0.05",
    "yarn",
    "dynamic-yarn",
    "ntk-by-parts",
    "ntk",
    "dynamic-ntk",
    "pi",
    "logn",
    "windows:windows=2048:sinks=4",
    "streaming",
)
"""Every method that asks for no training at this scale; DPRoPE with two thresholds."""

TEXT = "persuasion.txt"
"""The novel that the package ships, as a file."""


@dataclass(frozen=True)
class Run:
    """One command.

    Attributes:
        name: of the results file, without its suffix, and what asks for it.
        verb: of `ropewalk`.
        arguments: after the model.
    """

    name: str
    verb: str
    arguments: tuple[str, ...]

    def command(self, model: str, *results: str) -> list[str]:
        """All that follows `ropewalk`.

        Args:
            model: the GGUF file.
            results: what says where the results go.
        """
        return [self.verb, model, *self.arguments, *results]

    @property
    def shown(self) -> str:
        """The command as the page shows it."""
        return shlex.join(["ropewalk", *self.command("MODEL", "--json", f"{self.name}.json")])


def _passkey(name: str, length: int, methods: Iterable[str]) -> Run:
    cells = ("--lengths", str(length), "--depths", "0.1,0.5,0.9", "--trials", "2")
    return Run(name, "passkey", (*cells, *_plans(methods)))


def _perplexity(name: str, lengths: str, methods: Iterable[str]) -> Run:
    return Run(name, "perplexity", (TEXT, "--lengths", lengths, *_plans(methods)))


def _plans(methods: Iterable[str]) -> tuple[str, ...]:
    return ("--target-length", "16384", "--methods", ",".join(methods), "--threads", "1")


RUNS = (
    _passkey("passkey-12k", 12_000, (*TRAINING_FREE, *LADDER)),
    _perplexity("perplexity", "8000,12000", (*TRAINING_FREE, *LADDER)),
    _passkey("passkey-8k", 8_000, (*TRAINING_FREE, *LADDER)),
)
"""In the order in which they are worth having."""
