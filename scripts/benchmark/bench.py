"""What all measurements share: the libraries, the model, the machine."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.child import Libraries
from benchmark.depth_cost import round_up
from benchmark.jobs import OURS, Setup
from ropewalk.wording.quantities import count
from ropewalk_plan import GgufHeader, rope_spec_from_gguf

UNPATCHED, NO_PLAN = "unpatched", "no plan"
"""What plans are compared with, as tables name it."""


@dataclass(frozen=True)
class Bench:
    """Where everything is measured.

    Attributes:
        libraries: the two builds.
        about: what they say of themselves, by `OURS` and `STOCK`.
        model: the GGUF file.
        threads: CPU threads of every run.
    """

    libraries: Libraries
    about: Mapping[str, Mapping[str, Any]]
    model: Path
    threads: int

    @property
    def against_stock(self) -> bool:
        """Whether there is an unpatched library."""
        return self.libraries.stock is not None

    @property
    def train_length(self) -> int:
        """L of the model."""
        return rope_spec_from_gguf(GgufHeader.read(self.model)).train_length

    @property
    def n_layer(self) -> int:
        """Layers of the model."""
        return rope_spec_from_gguf(GgufHeader.read(self.model)).n_layer

    def setup(
        self,
        n_ctx: int,
        method: str = "",
        target_length: int = 0,
        options: Mapping[str, str] | None = None,
        *,
        flash_attention: bool = False,
    ) -> Setup:
        """The model in a context of at least `n_ctx` tokens, with a plan that reaches twice as far as L.

        Args:
            n_ctx: tokens.
            method: of the plan; "" for none.
            target_length: the plan's; twice L where 0.
            options: the method's.
            flash_attention: whether it is on.
        """
        return Setup(
            model=str(self.model),
            n_ctx=round_up(n_ctx),
            threads=self.threads,
            flash_attention=flash_attention,
            method=method,
            target_length=(target_length or 2 * self.train_length) if method else 0,
            options=options or {},
        )

    @property
    def processor(self) -> str:
        """The processor's name and its cores."""
        return _processor()

    @property
    def where(self) -> str:
        """The machine, the model and the library in a sentence."""
        return (
            f"{self.model.name} on {_processor()}, {count(self.threads, 'thread')}; "
            f"the patch {self.about[OURS]['build']}."
        )


def _processor() -> str:
    """The processor's name, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({count(len(names), 'core')})" if names else platform.machine()
